"""From a claimed job's sealed payload to a container that is ready to start."""

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from stint.core.errors import EngineError, ImageError, JobFailedError, LeaseLostError, VaultError
from stint.core.events import TEXT_LENGTH, Ended, Launched, Started
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.core.submission.payload import JobPayload
from stint.ports import Delivery
from stint_runner.engine.port import ContainerSpec
from stint_runner.engine.removal import cleared, removed
from stint_runner.inputs.content import Content, Manifest, check_content
from stint_runner.inputs.memory import Share
from stint_runner.inputs.payload import Opened
from stint_runner.inputs.secretfile import Seal, new_key, recorded
from stint_runner.inputs.spec import container_image, exposes_token, pull_always, spec_for, with_token
from stint_runner.job.examine import Examined
from stint_runner.job.fill import fill, secrets_of
from stint_runner.phases import Report
from stint_runner.retry import append_events, retry
from stint_runner.runner import Runner
from stint_runner.together import side_by_side

log = structlog.get_logger()

PULLS: Final = 2  # pulls of a missing image: the first one's may be removed as unused before it has a container


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A container that is ready to start."""

    container_id: str
    tty: bool
    timeout: float  # seconds that it may run, 0 for no limit
    secrets_digest: str  # by which its secrets file is known again (see `stint_runner.inputs.secretfile.Seal`)
    masked: Collection[Any] = field(repr=False)  # the secret values to mask in its output


class Preparation:
    """Claims a job and makes its container. `run` once, when it is claimed; in any case then `remove`, `log_out`."""

    def __init__(self, runner: Runner, job: Job, examined: Examined, delivery: Delivery, share: Share) -> None:
        """`share` has the memory of the payload; it is free when the container has its files."""
        self.image = ""  # as the payload named it, "" as long as that is not known
        self._runner = runner
        self._job = job
        self._examined = examined
        self._delivery = delivery
        self._share = share
        self._read_only = False
        self._seal_key = new_key()
        # Kept for clean-up: Vault or Docker may complete these calls after they are cancelled.
        self._login: asyncio.Future[str] | None = None
        self._creation: asyncio.Future[str] | None = None

    def claim(self) -> Started:
        """The event that claims the job."""
        return self._runner.fact(
            Started,
            runner=self._runner.id,
            kill_grace=self._runner.settings.kill_grace,
            payload_sha256=self._examined.ticket.payload_sha256,
            lease=self._delivery.lease,
        )

    async def run(self, report: Report) -> Prepared:
        """Log in, pull, create, fill, and freeze if the root is to be read-only. `report` hears of each step.

        Raises JobFailedError if the submission is at fault, EngineError if the engine refused, VaultError if Vault did
        not answer for too long, LeaseLostError if the job was ended by another.
        """
        opened, content = await self._opened()
        self._share.shrink(len(content.archive))
        payload = opened.job
        self.image, self._read_only = container_image(payload, content.manifest), payload.read_only
        settings = self._runner.settings
        spec = spec_for(settings, self._job, self._delivery, payload, image=self.image, seal_key=self._seal_key)
        self._log_in()  # while the container is created
        if exposes_token(payload, compat=bool(settings.compat)):
            spec = with_token(spec, await self._token())
        report("creating")
        container_id = await self._create(spec, payload, report)
        image = await self._runner.images.files(container_id)
        secrets = await secrets_of(self._runner, opened, content.manifest, image, await self._token())
        filling = fill(self._runner, container_id, content, image, secrets.file)
        if spec.read_only:
            await filling
            container_id = await self._made(self._runner.engine.freeze(container_id, spec))
            await self._append_launched(container_id, payload, image.image_id, secrets.given)
        else:
            await side_by_side(filling, self._append_launched(container_id, payload, image.image_id, secrets.given))
        self._share.shrink(0)
        return Prepared(
            container_id=container_id,
            tty=payload.tty,
            timeout=spec.limits.timeout,
            secrets_digest=Seal.of(secrets.file, self._seal_key).digest,
            masked=secrets.values.values() if payload.mask_secrets else (),
        )

    # --- the payload --------------------------------------------------------------------------------------------------

    async def _opened(self) -> tuple[Opened, Content]:
        """The payload, and its content taken out of it."""
        examined, opener = self._examined, self._runner.opener
        opened = examined.opened or await opener.payload_for(
            await self._token(), examined.sealed, queue_name(self._job.token)
        )
        self._examined = replace(examined, opened=None, sealed=b"")  # its memory is free from now on
        content = Content(b"", Manifest())
        if opened.job.content:
            content = await asyncio.to_thread(check_content, opened.job.content)
        return replace(opened, job=msgspec.structs.replace(opened.job, content="")), content

    def _log_in(self) -> "asyncio.Future[str]":
        """The login that spends the wrapping token, begun with the first call."""
        if self._login is None:
            self._login = asyncio.ensure_future(self._runner.opener.log_in(self._examined.ticket))
        return self._login

    async def _token(self) -> str:
        return await asyncio.shield(self._log_in())

    # --- the container ------------------------------------------------------------------------------------------------

    async def _create(self, spec: ContainerSpec, payload: JobPayload, report: Report) -> str:
        """The container to fill. For a read-only root it is only the model, which needs no environment."""
        if spec.read_only:
            spec = msgspec.structs.replace(spec, read_only=False, env=())
        engine = self._runner.engine
        if pull_always(payload):
            await self._pull(report, always=True)
        for _ in range(PULLS):
            with suppress(ImageError):  # most images are there
                return await self._made(engine.create(spec))
            await self._pull(report, always=False)
        try:
            return await self._made(engine.create(spec))
        except ImageError as error:
            raise JobFailedError(error.sentence, reason="image") from None

    async def _pull(self, report: Report, *, always: bool) -> None:
        report("pulling")
        try:
            with self._runner.space.needed():
                await self._runner.engine.ensure_image(self.image, always=always, progress=partial(report, "pulling"))
        except EngineError as error:
            raise JobFailedError(error.sentence, reason="image") from None
        report("creating")

    async def _made(self, creation: Coroutine[Any, Any, str]) -> str:
        """The new container's id. A cancellation does not interrupt its creation."""
        self._creation = asyncio.ensure_future(creation)
        with self._runner.space.needed():
            return await asyncio.shield(self._creation)

    async def _append_launched(
        self, container_id: str, payload: JobPayload, image_id: str, given: Mapping[str, int | None]
    ) -> None:
        """Append `launched`, but not after an end: a runner that was frozen or cut off would come too late."""
        runner, job_id = self._runner, self._job.job_id
        image = self.image[:TEXT_LENGTH]
        launched = runner.fact(
            Launched,
            container_id=container_id,
            container_image=image,
            image_id=image_id,
            tty=payload.tty,
            **recorded(given),
        )
        if await append_events(runner.log, self._job.token, job_id, launched, unless=Ended.kind):
            return
        job = await retry(lambda: runner.log.current(job_id))
        if job is None or job.terminal:
            raise LeaseLostError("The job was ended by another.")
        # Otherwise a stranger's event stands in its place already.

    # --- afterwards ---------------------------------------------------------------------------------------------------

    async def remove(self) -> bool:
        """Remove the job's containers, which are looked for unless there is one known. False if one may be left."""
        if self._creation is not None:
            await asyncio.wait({self._creation})  # however large what it freezes
        self._examined = replace(self._examined, opened=None, sealed=b"")  # a login may outlast its share of the memory
        engine, container_id = self._runner.engine, _result(self._creation)
        if self._read_only or not container_id:
            return await cleared(engine, self._job.job_id, image=self._read_only)
        return await removed(engine, self._job.job_id, container_id)

    async def log_out(self) -> None:
        """Revoke the job's token, also if the login ends only now: it is repeated while Vault is unavailable."""
        if self._login is not None:
            await asyncio.wait({self._login})
        try:
            if token := _result(self._login):
                await self._runner.opener.vault.revoke_self(token)
        except VaultError as error:
            log.warning("job's token not revoked, it ends by itself", job=self._job.job_id, error=error.sentence)


def _result(future: "asyncio.Future[str] | None") -> str:
    finished = future is not None and future.done() and not future.cancelled() and future.exception() is None
    return future.result() if future is not None and finished else ""
