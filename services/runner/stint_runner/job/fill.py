"""The files that are put into a job's container before it starts."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from stint.core.errors import JobFailedError
from stint_runner.engine.port import DanglingLinkError
from stint_runner.inputs.content import Content, Manifest, parse_manifest
from stint_runner.inputs.files import PASSWD, ImageFiles, Member, overlay, passwd_member
from stint_runner.inputs.payload import Opened
from stint_runner.inputs.secretfile import secrets_member
from stint_runner.inputs.spec import exposes_token, secret_refs
from stint_runner.runner import Runner


class JobSecrets(NamedTuple):
    """A job's secrets: the values by variable, the file with them, and the versions by `path.key`."""

    values: Mapping[str, Any]
    file: Member
    given: Mapping[str, int | None]

    def __repr__(self) -> str:
        return f"JobSecrets(given={self.given!r})"


async def secrets_of(
    runner: Runner, opened: Opened, content: Manifest, image: ImageFiles, job_token: str
) -> JobSecrets:
    """Read a job's secrets. Raises JobFailedError if one cannot be had, VaultError if Vault did not answer in time."""
    compat = bool(runner.settings.compat)
    manifest = Manifest()
    if image.manifest:
        manifest = await asyncio.to_thread(parse_manifest, image.manifest, name="gostint_image.yml", reason="image")
    refs = secret_refs(opened.job, content, manifest, opened.request_refs)
    found, given = await runner.opener.secrets(refs, job_token, cont_on_warnings=opened.job.cont_on_warnings)
    values = dict(found)
    if exposes_token(opened.job, compat=compat):
        values["TOKEN"] = job_token
    # In a thread: YAML of a megabyte takes seconds, and other jobs' heartbeats must not wait for it.
    file = await asyncio.to_thread(secrets_member, values, opened.job.secret_file_type, compat=compat)
    return JobSecrets(values, file, given)


async def fill(runner: Runner, container_id: str, content: Content, image: ImageFiles, secrets: Member) -> None:
    """Content first, so that it cannot replace the secrets file.

    Raises JobFailedError if the content is at fault, EngineError if the engine refuses.
    """
    engine, passwd = runner.engine, image.passwd
    if content.archive:
        try:
            await engine.put_archive(container_id, content.archive)
        except DanglingLinkError:
            fault = "Failed content tar: a hard link leads to a file that is not there"
            raise JobFailedError(fault, reason="content") from None
        passwd = await engine.read_file(container_id, PASSWD)  # it may have brought its own
    with runner.space.needed():
        await engine.put_archive(container_id, overlay(passwd_member(passwd), secrets))
