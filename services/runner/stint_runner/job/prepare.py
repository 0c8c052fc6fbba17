"""From a claimed job's sealed payload to a container that is ready to start."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import structlog

from stint.core.errors import (
    BrokerUnavailableError,
    EngineError,
    ImageError,
    JobFailedError,
    LeaseLostError,
    StintError,
    UndecodableError,
    VaultError,
)
from stint.core.events import Launched, Submitted
from stint.core.job import Job
from stint.core.limits import check_limits
from stint.core.payload import JobPayload
from stint.core.subjects import queue_name
from stint.ports import Delivery
from stint.vault import Ticket
from stint_runner.engine.port import ContainerSpec
from stint_runner.engine.removal import CLEAN_UP, cleared
from stint_runner.inputs.content import Content, Manifest, check_content
from stint_runner.inputs.memory import Share
from stint_runner.inputs.opening import Opened
from stint_runner.inputs.secretfile import check_file_type, new_key
from stint_runner.inputs.spec import container_image, container_spec, labels, pull_always
from stint_runner.job.fill import fill
from stint_runner.registry.references import matches
from stint_runner.retry import append_events, retry
from stint_runner.runner import Runner

log = structlog.get_logger()

TEXT_LENGTH: Final = 4096
"""Characters of an image's name and of an error that an event carries: an event must fit into one message."""
OPENING: Final = 7
"""Bytes of memory for each byte of a sealed payload while it is opened (measured): its ways to and from Vault."""
CHUNK: Final = 512 * 1024
"""Bytes of a payload's chunk, in which its submitter may say that it is smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A container that is ready to start, what it was made for, and the secret values in it by variable.

    Attributes:
        timeout: seconds that it may run, 0 for no limit.
        secrets_digest: by which its secrets file is known again (see `stint_runner.inputs.secretfile.Seal`).
        payload: without its content, which is in the container.
    """

    container_id: str
    timeout: float
    secrets_digest: str
    payload: JobPayload = field(repr=False)
    secrets: Mapping[str, Any] = field(repr=False)


class Preparation:
    """Makes the container of a job that was claimed. `run` once, then `clean_up`, whatever became of `run`.

    Attributes:
        image: as the payload named it, "" as long as that is not known.
    """

    def __init__(self, runner: Runner, job: Job, ticket: Ticket, delivery: Delivery) -> None:
        submitted = job.fact(Submitted)
        assert submitted is not None, "its ticket was opened"  # noqa: S101 - for the type checker
        self.image = ""
        self._runner = runner
        self._job = job
        self._submitted = submitted
        self._ticket = ticket
        self._delivery = delivery
        self._job_token = ""
        self._read_only = False
        self._seal_key = new_key()
        # Kept for clean-up: Vault or Docker may complete these calls after they are cancelled.
        self._login: asyncio.Future[str] | None = None
        self._creation: asyncio.Future[str] | None = None

    async def run(self) -> Prepared:
        """Open, pull, create, fill, and freeze if the root is to be read-only.

        Raises:
            JobFailedError: the submission is at fault.
            EngineError: the engine refused.
            VaultError: Vault did not answer for too long.
            LeaseLostError: the job was ended by another.
        """
        async with self._runner.memory.share(_memory(self._submitted)) as share:
            prepared, spec = await self._filled(share)
        if spec.read_only:
            frozen = await self._made(self._runner.engine.freeze(prepared.container_id, spec))
            prepared = replace(prepared, container_id=frozen)
        await self._append_launched(prepared.container_id, prepared.payload)
        return prepared

    async def _filled(self, share: Share) -> tuple[Prepared, ContainerSpec]:
        """A container with all its files. The content's memory is free when this returns."""
        opened, content = await self._opened()
        share.shrink(len(content.archive))
        payload = opened.job
        self._read_only = payload.read_only
        spec = self._spec(payload, content.manifest)
        await self._pull(payload)
        container_id = await self._create(spec)
        secrets, seal = await fill(
            self._runner, container_id, opened, content, job_token=self._job_token, seal_key=self._seal_key
        )
        prepared = Prepared(
            container_id=container_id,
            timeout=spec.limits.timeout,
            secrets_digest=seal.digest,
            payload=payload,
            secrets=secrets,
        )
        return prepared, spec

    # --- the payload --------------------------------------------------------------------------------------------------

    async def _opened(self) -> tuple[Opened, Content]:
        """The payload, and its content taken out of it."""
        opener = self._runner.opener
        sealed = await self._sealed()
        opener.check_payload(sealed, self._ticket)
        self._login = asyncio.ensure_future(opener.log_in(self._ticket))
        self._job_token = await asyncio.shield(self._login)
        opened = await opener.payload(sealed, self._job_token, queue_name(self._job.token))
        content = Content(b"", Manifest())
        if opened.job.content:
            content = await asyncio.to_thread(check_content, opened.job.content)
        return replace(opened, job=msgspec.structs.replace(opened.job, content="")), content

    async def _sealed(self) -> bytes:
        job, payloads = self._job, self._runner.payloads
        chunks, attempt = self._submitted.payload_chunks, self._submitted.payload_try
        try:
            return await retry(
                lambda: payloads.get(job.token, job.job_id, chunks, attempt=attempt), on=BrokerUnavailableError
            )
        except StintError as error:
            raise JobFailedError(error.sentence, reason="payload") from None

    # --- the container ------------------------------------------------------------------------------------------------

    def _spec(self, payload: JobPayload, manifest: Manifest) -> ContainerSpec:
        """The container for a payload. What this runner does not offer is refused before anything is pulled."""
        settings, policy = self._runner.settings, self._runner.limits
        try:
            check_limits(payload)
        except UndecodableError as error:
            raise JobFailedError(error.sentence, reason="payload") from None
        limits = policy.limits(payload)
        network = policy.network_of(payload)
        self.image = container_image(payload, manifest)
        check_file_type(payload.secret_file_type)
        return container_spec(
            payload,
            self.image,
            labels=labels(
                job_id=self._job.job_id,
                token=self._job.token,
                runner=self._runner.id,
                ack=self._delivery.ack_subject,
                origin=self._delivery.origin,
                timeout=limits.timeout,
                seal_key=self._seal_key if payload.mask_secrets else "",
                read_only=payload.read_only,
            ),
            network=network,
            limits=limits,
            vault_addr=settings.vault_external_addr or settings.vault_addr,
            vault_cacert=settings.vault_cacert,
            vault_token=self._job_token,
            compat=bool(settings.compat),
        )

    async def _pull(self, payload: JobPayload) -> None:
        """Get the image, if it may run here."""
        try:
            if not matches(self.image, self._runner.settings.images_allow):
                raise JobFailedError(f"The image {self.image} is not among those that may run here.", reason="image")
            await self._runner.engine.ensure_image(self.image, always=pull_always(payload))
        except EngineError as error:
            raise JobFailedError(error.sentence, reason="image") from None

    async def _create(self, spec: ContainerSpec) -> str:
        """The container to fill. For a read-only root it is only the model, which needs no environment."""
        if spec.read_only:
            spec = msgspec.structs.replace(spec, read_only=False, env=())
        try:
            return await self._made(self._runner.engine.create(spec))
        except ImageError as error:
            raise JobFailedError(error.sentence, reason="image") from None

    async def _made(self, creation: Coroutine[Any, Any, str]) -> str:
        """The new container's id. A cancellation does not interrupt its creation."""
        self._creation = asyncio.ensure_future(creation)
        return await asyncio.shield(self._creation)

    async def _append_launched(self, container_id: str, payload: JobPayload) -> None:
        """Append `launched`, but not after an end: a runner that was frozen or cut off would come too late."""
        runner, job_id = self._runner, self._job.job_id
        image = self.image[:TEXT_LENGTH]
        launched = runner.fact(Launched, container_id=container_id, container_image=image, tty=payload.tty)
        seen = 0
        while True:
            job = await retry(lambda: runner.log.load(job_id))
            if job is None or job.terminal:
                raise LeaseLostError("The job was ended by another.")
            if job.sequence == seen:
                return  # a stranger's event stands in its place already
            seen = job.sequence
            if await append_events(runner.log, job.token, job_id, launched, after=seen):
                return

    # --- afterwards ---------------------------------------------------------------------------------------------------

    async def clean_up(self) -> bool:
        """Remove the job's containers and revoke its token. Safe to repeat. False if a container may be left."""
        if self._creation is not None:
            await asyncio.wait({self._creation})  # however large what it freezes
        if self._login is not None:
            await asyncio.wait({self._login}, timeout=CLEAN_UP)
        gone = await cleared(self._runner.engine, self._job.job_id, image=self._read_only)
        try:
            if token := _result(self._login):
                await self._runner.opener.revoke(token)
        except VaultError as error:
            log.warning("job's token not revoked, it ends by itself", job=self._job.job_id, error=error.sentence)
        return gone


def _memory(submitted: Submitted) -> int:
    """Bytes that opening a payload takes. The submission is not believed to be smaller than its chunks allow."""
    return OPENING * max(submitted.payload_bytes, submitted.payload_chunks * CHUNK)


def _result(future: "asyncio.Future[str] | None") -> str:
    finished = future is not None and future.done() and not future.cancelled() and future.exception() is None
    return future.result() if future is not None and finished else ""
