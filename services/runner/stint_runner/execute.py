"""One claimed job: from its sealed payload to how it ended, and the clean-up."""

import asyncio
from typing import Final

import structlog

from stint.errors import BrokerUnavailableError, EngineError, JobFailedError, StintError, VaultError
from stint.events import Ended, Launched, Submitted
from stint.payload import JobPayload
from stint.subjects import LABEL_JOB, queue_name
from stint.vault import Ticket
from stint_runner.content import Content, Manifest, parse_manifest, unpack
from stint_runner.engine import Exit
from stint_runner.images import matches
from stint_runner.output import OutputPump
from stint_runner.overlay import overlay
from stint_runner.parts import Parts
from stint_runner.passwd import PATH as PASSWD
from stint_runner.passwd import passwd_member
from stint_runner.secretfile import check_file_type, secrets_member
from stint_runner.spec import (
    JobContext,
    container_image,
    container_spec,
    exposes_token,
    labels,
    pull_always,
    secret_refs,
)
from stint_runner.waiting import InterruptedByEventError, append_surely, patiently, unless

log = structlog.get_logger()

IMAGE_MANIFEST: Final = "/gostint_image.yml"
TEXT_LENGTH: Final = 4096
"""Characters of an image's name and of an error that a fact carries: a fact must fit into one message."""
CLEAN_UP: Final = 30.0
"""Seconds that each step of the clean-up is tried for."""
OUTPUT_END: Final = 30.0
"""Seconds after a container's exit in which at least one more chunk of its output must have come."""


class Execution:
    """Runs one job. `run` once, then `clean_up`, whatever became of `run`."""

    def __init__(
        self, parts: Parts, submitted: Submitted, ticket: Ticket, *, token: str, job_id: str, ack: str
    ) -> None:
        """`ack` is the delivery's ack subject, kept with the container."""
        self._parts = parts
        self._submitted = submitted
        self._ticket = ticket
        self._token = token
        self._job_id = job_id
        self._ack = ack
        self._image = ""
        self._container = ""
        self._job_token = ""
        # What a cancellation must not lose sight of: the server may finish it all the same.
        self._login: asyncio.Future[str] | None = None
        self._creation: asyncio.Future[str] | None = None
        self._complete = True
        self._gone = True
        self._pump = OutputPump(parts.output, token, job_id)

    async def run(self, killed: asyncio.Event) -> Ended:
        """Run the job to its end; `killed` stops it, at whatever point it is. Returns the fact to append."""
        try:
            await unless(killed, self._prepare())
            exited, signalled = await self._run_container(killed)
        except InterruptedByEventError:
            return self._failed("job killed", "killed")
        except JobFailedError as error:
            return self._failed(error.sentence, error.reason, error.status)
        except EngineError as error:
            return self._failed(f"Run container failed: {error.sentence}", "container")
        except VaultError as error:
            return self._failed(f"Vault did not answer: {error.sentence}", "secrets")
        return self._exited(exited, signalled=signalled)

    # --- before the start -------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        payload = await self._open()
        content = await self._content(payload)
        self._image = container_image(payload, content.manifest)
        if not matches(self._image, self._parts.images_allow):
            raise JobFailedError(f"The image {self._image} is not among those that may run here.", reason="image")
        check_file_type(payload.secret_file_type)
        await self._pull(payload)
        await self._create(payload)
        await self._fill(payload, content)

    async def _open(self) -> JobPayload:
        parts = self._parts
        try:
            sealed = await patiently(
                lambda: parts.payloads.get(self._token, self._job_id, self._submitted.payload_chunks),
                on=BrokerUnavailableError,
            )
        except StintError as error:
            raise JobFailedError(error.sentence, reason="payload") from None
        parts.opener.check_payload(sealed, self._ticket)
        self._login = asyncio.ensure_future(parts.opener.log_in(self._ticket))
        self._job_token = await asyncio.shield(self._login)
        return await parts.opener.payload(sealed, self._job_token, queue_name(self._token))

    @staticmethod
    async def _content(payload: JobPayload) -> Content:
        if not payload.content:
            return Content(b"", Manifest())
        return await asyncio.to_thread(unpack, payload.content)

    async def _pull(self, payload: JobPayload) -> None:
        try:
            await self._parts.engine.ensure_image(self._image, always=pull_always(payload))
        except EngineError as error:
            raise JobFailedError(error.sentence, reason="image") from None

    async def _create(self, payload: JobPayload) -> None:
        parts = self._parts
        context = JobContext(
            labels=labels(job_id=self._job_id, token=self._token, runner=parts.runner, ack=self._ack),
            network=parts.network,
            vault_addr=parts.vault_addr,
            vault_cacert=parts.vault_cacert,
            vault_token=self._job_token,
            compat=parts.compat,
        )
        self._creation = asyncio.ensure_future(parts.engine.create(container_spec(payload, self._image, context)))
        self._container = await asyncio.shield(self._creation)
        launched = parts.fact(
            Launched, container_id=self._container, container_image=self._image[:TEXT_LENGTH], tty=payload.tty
        )
        await append_surely(parts.log, self._token, self._job_id, launched)

    async def _fill(self, payload: JobPayload, content: Content) -> None:
        """Content first, so that it cannot replace the secrets file."""
        engine, opener = self._parts.engine, self._parts.opener
        document = await engine.read_file(self._container, IMAGE_MANIFEST)
        image = await asyncio.to_thread(_image_manifest, document)
        refs = secret_refs(payload, content.manifest, image)
        values = dict(await opener.secrets(refs, self._job_token, cont_on_warnings=payload.cont_on_warnings))
        if exposes_token(payload, compat=self._parts.compat):
            values["TOKEN"] = self._job_token
        if content.archive:
            await engine.put_archive(self._container, content.archive)
        passwd = passwd_member(await engine.read_file(self._container, PASSWD))
        secrets = secrets_member(values, payload.secret_file_type, compat=self._parts.compat)
        await engine.put_archive(self._container, overlay(passwd, secrets))

    # --- while it runs ----------------------------------------------------------------------------------------------

    async def _run_container(self, killed: asyncio.Event) -> tuple[Exit, bool]:
        """How the container ended, and whether a kill was signalled before that."""
        if killed.is_set():
            raise InterruptedByEventError
        self._gone = False
        await self._parts.engine.start(self._container)
        self._complete = False
        copying = asyncio.create_task(self._pump.copy(self._parts.engine.output(self._container)))
        try:
            ending = await self._until_exit(killed)
            self._gone = True
            await self._finish(copying)
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
        return ending

    async def _until_exit(self, killed: asyncio.Event) -> tuple[Exit, bool]:
        engine = self._parts.engine
        waiting = asyncio.create_task(engine.wait(self._container))
        try:
            return await unless(killed, asyncio.shield(waiting)), False
        except InterruptedByEventError:
            await engine.stop(self._container, self._parts.kill_grace)
            return await waiting, True
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _finish(self, copying: "asyncio.Task[None]") -> None:
        """Wait for the rest of the output, if the engine still gives it."""
        seen = -1
        while not copying.done() and self._pump.chunks != seen:
            seen = self._pump.chunks
            await asyncio.wait({copying}, timeout=OUTPUT_END)
        fault = copying.exception() if copying.done() else TimeoutError()
        self._complete = fault is None
        if fault is not None:
            log.warning("output incomplete", job=self._job_id, error=type(fault).__name__)

    # --- the end ----------------------------------------------------------------------------------------------------

    def _exited(self, exited: Exit, *, signalled: bool) -> Ended:
        reason = ""
        if signalled:
            reason = "killed"
        elif exited.oom_killed and exited.code:
            reason = "oom"
        elif exited.code:
            reason = "exit_code"
        return self._ended("failed" if reason else "success", reason, return_code=exited.code)

    def _failed(self, sentence: str, reason: str, status: str = "failed") -> Ended:
        return self._ended(status, reason, sentence)

    def _ended(self, status: str, reason: str, error: str = "", return_code: int = 0) -> Ended:
        return self._parts.fact(
            Ended,
            status=status,
            reason=reason,
            error=error[:TEXT_LENGTH],
            return_code=return_code,
            container_image=self._image[:TEXT_LENGTH],
            chunks=self._pump.chunks,
            output_bytes=self._pump.size,
            output_digest=self._pump.digest,
            output_complete=self._complete,
        )

    async def contain(self) -> None:
        """Make sure that no container of the job runs any more, for however long the engine does not answer."""
        if not self._gone:
            await patiently(lambda: remove_containers(self._parts, self._job_id), on=EngineError)
            self._gone = True

    async def clean_up(self) -> None:
        """Remove the job's containers and revoke its token. Safe to repeat."""
        under_way = [future for future in (self._login, self._creation) if future is not None]
        if under_way:
            await asyncio.wait(under_way, timeout=CLEAN_UP)
        try:
            await patiently(lambda: remove_containers(self._parts, self._job_id), on=EngineError, within=CLEAN_UP)
        except EngineError as error:
            log.warning("container not removed", job=self._job_id, error=error.sentence)
        try:
            if token := _result(self._login):
                await self._parts.opener.revoke(token)
        except VaultError as error:
            log.warning("job's token not revoked, it ends by itself", job=self._job_id, error=error.sentence)


def _result(future: "asyncio.Future[str] | None") -> str:
    finished = future is not None and future.done() and not future.cancelled() and future.exception() is None
    return future.result() if future is not None and finished else ""


def _image_manifest(document: bytes | None) -> Manifest:
    return parse_manifest(document, name="gostint_image.yml", reason="image") if document else Manifest()


async def remove_containers(parts: Parts, job_id: str) -> int:
    """Remove whatever containers a job has on this engine; returns how many there were."""
    found = await parts.engine.find({LABEL_JOB: job_id})
    for container in found:
        await parts.engine.remove(container.container_id)
    return len(found)
