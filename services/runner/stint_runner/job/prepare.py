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
from stint.core.limits import check_limits
from stint.core.payload import JobPayload
from stint.core.subjects import queue_name
from stint.ports import Outcome
from stint.vault import Ticket
from stint_runner.engine.port import ContainerSpec
from stint_runner.engine.removal import CLEAN_UP, cleared
from stint_runner.inputs.content import Content, Manifest, check_content
from stint_runner.inputs.memory import Share
from stint_runner.inputs.opening import Opened
from stint_runner.inputs.secretfile import check_file_type, new_key
from stint_runner.inputs.spec import (
    JobContext,
    container_image,
    container_spec,
    labels,
    pull_always,
)
from stint_runner.job.fill import fill
from stint_runner.parts import Parts
from stint_runner.registry.references import matches
from stint_runner.waiting import append_surely, patiently

log = structlog.get_logger()

TEXT_LENGTH: Final = 4096
"""Characters of an image's name and of an error that a fact carries: a fact must fit into one message."""
OPENING: Final = 7
"""Bytes of memory for each byte of a sealed payload while it is opened (measured): its ways to and from Vault."""
CHUNK: Final = 512 * 1024
"""Bytes of a payload's chunk, in which its submitter may say that it is smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A job that this runner has claimed.

    Attributes:
        ack: the delivery's ack subject, kept with the container.
        origin: of the delivery, likewise.
    """

    job_id: str
    token: str
    submitted: Submitted
    ticket: Ticket
    ack: str
    origin: str


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
    """Makes a job's container. `run` once, then `clean_up`, whatever became of `run`.

    Attributes:
        image: as the payload named it, "" as long as that is not known.
    """

    def __init__(self, parts: Parts, claimed: Claimed) -> None:
        self.image = ""
        self._parts = parts
        self._claimed = claimed
        self._job_token = ""
        self._read_only = False
        self._seal_key = new_key()
        # What a cancellation must not lose sight of: the server may finish it all the same.
        self._login: asyncio.Future[str] | None = None
        self._creation: asyncio.Future[str] | None = None

    async def run(self) -> Prepared:
        """Open, pull, create, fill, and freeze where the root is to be read-only.

        Raises:
            JobFailedError: through a fault in the submission.
            EngineError: the engine refused.
            VaultError: Vault did not answer for too long.
            LeaseLostError: the job was ended by another.
        """
        async with self._parts.memory.share(_memory(self._claimed.submitted)) as share:
            prepared, spec = await self._filled(share)
        if spec.read_only:
            frozen = await self._surely(self._parts.engine.freeze(prepared.container_id, spec))
            prepared = replace(prepared, container_id=frozen)
        await self._launched(prepared.container_id, prepared.payload)
        return prepared

    async def _filled(self, share: Share) -> tuple[Prepared, ContainerSpec]:
        """A container with all its files. The content is let go of with this call's end."""
        opened, content = await self._opened()
        share.shrink(len(content.archive))
        payload = opened.job
        context = self._context(payload)
        self.image = container_image(payload, content.manifest)
        self._check_image()
        check_file_type(payload.secret_file_type)
        await self._pull(payload)
        spec = container_spec(payload, self.image, context)
        container_id = await self._create(spec)
        filled = await fill(
            self._parts, container_id, opened, content, job_token=self._job_token, seal_key=self._seal_key
        )
        prepared = Prepared(
            container_id=container_id,
            timeout=context.limits.timeout,
            secrets_digest=filled.seal.digest,
            payload=payload,
            secrets=filled.secrets,
        )
        return prepared, spec

    async def _opened(self) -> tuple[Opened, Content]:
        """The payload, and its content taken out of it."""
        opened = await self._open()
        content = await self._content(opened.job)
        return replace(opened, job=msgspec.structs.replace(opened.job, content="")), content

    async def _open(self) -> Opened:
        claimed, opener = self._claimed, self._parts.opener
        sealed = await self._sealed()
        opener.check_payload(sealed, claimed.ticket)
        self._login = asyncio.ensure_future(opener.log_in(claimed.ticket))
        self._job_token = await asyncio.shield(self._login)
        return await opener.payload(sealed, self._job_token, queue_name(claimed.token))

    async def _sealed(self) -> bytes:
        claimed, payloads = self._claimed, self._parts.payloads
        chunks, attempt = claimed.submitted.payload_chunks, claimed.submitted.payload_try
        try:
            return await patiently(
                lambda: payloads.get(claimed.token, claimed.job_id, chunks, attempt=attempt), on=BrokerUnavailableError
            )
        except StintError as error:
            raise JobFailedError(error.sentence, reason="payload") from None

    @staticmethod
    async def _content(payload: JobPayload) -> Content:
        if not payload.content:
            return Content(b"", Manifest())
        return await asyncio.to_thread(check_content, payload.content)

    def _check_image(self) -> None:
        try:
            allowed = matches(self.image, self._parts.images_allow)
        except ImageError as error:
            raise JobFailedError(error.sentence, reason="image") from None
        if not allowed:
            raise JobFailedError(f"The image {self.image} is not among those that may run here.", reason="image")

    async def _pull(self, payload: JobPayload) -> None:
        try:
            await self._parts.engine.ensure_image(self.image, always=pull_always(payload))
        except EngineError as error:
            raise JobFailedError(error.sentence, reason="image") from None

    def _context(self, payload: JobPayload) -> JobContext:
        """What this runner makes of a job; refuses what it does not give, before anything is pulled."""
        parts, claimed = self._parts, self._claimed
        try:
            check_limits(payload)
        except UndecodableError as error:
            raise JobFailedError(error.sentence, reason="payload") from None
        limits = parts.limits.limits(payload)
        self._read_only = payload.read_only
        marks = labels(
            job_id=claimed.job_id,
            token=claimed.token,
            runner=parts.runner,
            ack=claimed.ack,
            origin=claimed.origin,
            timeout=limits.timeout,
            seal_key=self._seal_key if payload.mask_secrets else "",
            read_only=payload.read_only,
        )
        return JobContext(
            labels=marks,
            network=parts.limits.network_of(payload),
            limits=limits,
            vault_addr=parts.vault_addr,
            vault_cacert=parts.vault_cacert,
            vault_token=self._job_token,
            compat=parts.compat,
        )

    async def _create(self, spec: ContainerSpec) -> str:
        """The container to fill. Of a read-only root it is the model only, and needs no environment."""
        engine = self._parts.engine
        if spec.read_only:
            spec = msgspec.structs.replace(spec, read_only=False, env=())
        try:
            return await self._surely(engine.create(spec))
        except ImageError as error:
            raise JobFailedError(error.sentence, reason="image") from None

    async def _surely(self, creation: Coroutine[Any, Any, str]) -> str:
        self._creation = asyncio.ensure_future(creation)
        return await asyncio.shield(self._creation)

    async def _launched(self, container_id: str, payload: JobPayload) -> None:
        """Record it, but not behind an end: a runner that was frozen, or cut off, would come too late."""
        parts, claimed = self._parts, self._claimed
        launched = parts.fact(
            Launched, container_id=container_id, container_image=self.image[:TEXT_LENGTH], tty=payload.tty
        )
        seen = 0
        while True:
            job = await patiently(lambda: parts.log.load(claimed.job_id))
            if job is None or job.terminal:
                raise LeaseLostError("The job was ended by another.")
            if job.sequence == seen:
                return  # a stranger's fact stands in its place already
            seen = job.sequence
            if await append_surely(parts.log, claimed.token, claimed.job_id, launched, after=seen) is Outcome.WON:
                return

    async def clean_up(self) -> bool:
        """Remove the job's containers and revoke its token. Safe to repeat. False if a container may be left."""
        job_id, image = self._claimed.job_id, self._read_only
        if self._creation is not None:
            await asyncio.wait({self._creation})  # however large what it freezes
        if self._login is not None:
            await asyncio.wait({self._login}, timeout=CLEAN_UP)
        gone = await cleared(self._parts.engine, job_id, image=image)
        try:
            if token := _result(self._login):
                await self._parts.opener.revoke(token)
        except VaultError as error:
            log.warning("job's token not revoked, it ends by itself", job=job_id, error=error.sentence)
        return gone


def _memory(submitted: Submitted) -> int:
    """Bytes that opening a payload takes. The submission is not believed to be smaller than its chunks allow."""
    return OPENING * max(submitted.payload_bytes, submitted.payload_chunks * CHUNK)


def _result(future: "asyncio.Future[str] | None") -> str:
    finished = future is not None and future.done() and not future.cancelled() and future.exception() is None
    return future.result() if future is not None and finished else ""
