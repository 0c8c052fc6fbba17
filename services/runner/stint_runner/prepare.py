"""From a claimed job's sealed payload to a container that is ready to start."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from stint.errors import BrokerUnavailableError, EngineError, JobFailedError, StintError, VaultError
from stint.events import Launched, Submitted
from stint.payload import JobPayload
from stint.subjects import LABEL_JOB, queue_name
from stint.vault import Ticket
from stint_runner.content import Content, Manifest, parse_manifest, unpack
from stint_runner.images import matches
from stint_runner.opening import Opened
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
from stint_runner.waiting import append_surely, patiently

log = structlog.get_logger()

IMAGE_MANIFEST: Final = "/gostint_image.yml"
TEXT_LENGTH: Final = 4096
"""Characters of an image's name and of an error that a fact carries: a fact must fit into one message."""
CLEAN_UP: Final = 30.0
"""Seconds that each step of the clean-up is tried for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A job that this runner has claimed.

    Attributes:
        ack: the delivery's ack subject, kept with the container.
    """

    job_id: str
    token: str
    submitted: Submitted
    ticket: Ticket
    ack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A container that is ready to start, what it was made for, and the secret values in it by variable."""

    container_id: str
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
        # What a cancellation must not lose sight of: the server may finish it all the same.
        self._login: asyncio.Future[str] | None = None
        self._creation: asyncio.Future[str] | None = None

    async def run(self) -> Prepared:
        """Open, pull, create, fill.

        Raises:
            JobFailedError: through a fault in the submission.
            EngineError: the engine refused.
            VaultError: Vault did not answer for too long.
        """
        opened = await self._open()
        payload = opened.job
        content = await self._content(payload)
        self.image = container_image(payload, content.manifest)
        if not matches(self.image, self._parts.images_allow):
            raise JobFailedError(f"The image {self.image} is not among those that may run here.", reason="image")
        check_file_type(payload.secret_file_type)
        await self._pull(payload)
        container_id = await self._create(payload)
        values = await self._fill(container_id, opened, content)
        return Prepared(container_id=container_id, payload=payload, secrets=values)

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
        return await asyncio.to_thread(unpack, payload.content)

    async def _pull(self, payload: JobPayload) -> None:
        try:
            await self._parts.engine.ensure_image(self.image, always=pull_always(payload))
        except EngineError as error:
            raise JobFailedError(error.sentence, reason="image") from None

    async def _create(self, payload: JobPayload) -> str:
        parts, claimed = self._parts, self._claimed
        context = JobContext(
            labels=labels(job_id=claimed.job_id, token=claimed.token, runner=parts.runner, ack=claimed.ack),
            network=parts.network,
            vault_addr=parts.vault_addr,
            vault_cacert=parts.vault_cacert,
            vault_token=self._job_token,
            compat=parts.compat,
        )
        self._creation = asyncio.ensure_future(parts.engine.create(container_spec(payload, self.image, context)))
        container_id = await asyncio.shield(self._creation)
        launched = parts.fact(
            Launched, container_id=container_id, container_image=self.image[:TEXT_LENGTH], tty=payload.tty
        )
        await append_surely(parts.log, claimed.token, claimed.job_id, launched)
        return container_id

    async def _fill(self, container_id: str, opened: Opened, content: Content) -> Mapping[str, Any]:
        """Content first, so that it cannot replace the secrets file. Returns the secrets."""
        engine, payload = self._parts.engine, opened.job
        values = await self._secrets(container_id, opened, content)
        if content.archive:
            await engine.put_archive(container_id, content.archive)
        passwd = passwd_member(await engine.read_file(container_id, PASSWD))
        secrets = secrets_member(values, payload.secret_file_type, compat=self._parts.compat)
        await engine.put_archive(container_id, overlay(passwd, secrets))
        return values

    async def _secrets(self, container_id: str, opened: Opened, content: Content) -> Mapping[str, Any]:
        document = await self._parts.engine.read_file(container_id, IMAGE_MANIFEST)
        image = await asyncio.to_thread(_image_manifest, document)
        refs = secret_refs(opened.job, content.manifest, image, opened.request_refs)
        lenient = opened.job.cont_on_warnings
        values = dict(await self._parts.opener.secrets(refs, self._job_token, cont_on_warnings=lenient))
        if exposes_token(opened.job, compat=self._parts.compat):
            values["TOKEN"] = self._job_token
        return values

    async def clean_up(self) -> None:
        """Remove the job's containers and revoke its token. Safe to repeat."""
        job_id = self._claimed.job_id
        under_way = [future for future in (self._login, self._creation) if future is not None]
        if under_way:
            await asyncio.wait(under_way, timeout=CLEAN_UP)
        try:
            await patiently(lambda: remove_containers(self._parts, job_id), on=EngineError, within=CLEAN_UP)
        except EngineError as error:
            log.warning("container not removed", job=job_id, error=error.sentence)
        try:
            if token := _result(self._login):
                await self._parts.opener.revoke(token)
        except VaultError as error:
            log.warning("job's token not revoked, it ends by itself", job=job_id, error=error.sentence)


async def remove_containers(parts: Parts, job_id: str) -> int:
    """Remove whatever containers a job has on this engine; returns how many there were."""
    found = await parts.engine.find({LABEL_JOB: job_id})
    for container in found:
        await parts.engine.remove(container.container_id)
    return len(found)


def _image_manifest(document: bytes | None) -> Manifest:
    return parse_manifest(document, name="gostint_image.yml", reason="image") if document else Manifest()


def _result(future: "asyncio.Future[str] | None") -> str:
    finished = future is not None and future.done() and not future.cancelled() and future.exception() is None
    return future.result() if future is not None and finished else ""
