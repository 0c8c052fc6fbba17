"""The files that are put into a job's container before it starts."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from stint_runner.inputs.content import Content, Manifest, parse_manifest
from stint_runner.inputs.files import PASSWD, overlay, passwd_member
from stint_runner.inputs.opening import Opened
from stint_runner.inputs.secretfile import Seal, secrets_member
from stint_runner.inputs.spec import exposes_token, secret_refs
from stint_runner.runner import Runner

IMAGE_MANIFEST: Final = "/gostint_image.yml"


async def fill(
    runner: Runner, container_id: str, opened: Opened, content: Content, *, job_token: str, seal_key: str
) -> tuple[Mapping[str, Any], Seal]:
    """Content first, so that it cannot replace the secrets file.

    Returns:
        The secrets by variable, and the seal of their file. `seal_key` is the one that the container bears.

    Raises:
        JobFailedError: a secret cannot be had, or the image's manifest is wrong.
        EngineError: the engine refused.
        VaultError: Vault did not answer for too long.
    """
    engine, compat = runner.engine, bool(runner.settings.compat)
    document = await engine.read_file(container_id, IMAGE_MANIFEST)
    image = await asyncio.to_thread(_image_manifest, document)
    refs = secret_refs(opened.job, content.manifest, image, opened.request_refs)
    values = dict(await runner.opener.secrets(refs, job_token, cont_on_warnings=opened.job.cont_on_warnings))
    if exposes_token(opened.job, compat=compat):
        values["TOKEN"] = job_token
    if content.archive:
        await engine.put_archive(container_id, content.archive)
    passwd = passwd_member(await engine.read_file(container_id, PASSWD))
    secrets = secrets_member(values, opened.job.secret_file_type, compat=compat)
    await engine.put_archive(container_id, overlay(passwd, secrets))
    return values, Seal.of(secrets, seal_key)


def _image_manifest(document: bytes | None) -> Manifest:
    return parse_manifest(document, name="gostint_image.yml", reason="image") if document else Manifest()
