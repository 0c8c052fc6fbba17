"""The files that stand in a job's container before it starts."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stint_runner.inputs.content import Content, Manifest, parse_manifest
from stint_runner.inputs.files import PASSWD, overlay, passwd_member
from stint_runner.inputs.opening import Opened
from stint_runner.inputs.secretfile import Seal, secrets_member
from stint_runner.inputs.spec import exposes_token, secret_refs
from stint_runner.parts import Parts

IMAGE_MANIFEST: Final = "/gostint_image.yml"


@dataclass(frozen=True, slots=True)
class Filled:
    """The secrets that a container holds by variable, and the seal of their file."""

    secrets: Mapping[str, Any] = field(repr=False)
    seal: Seal


async def fill(
    parts: Parts, container_id: str, opened: Opened, content: Content, *, job_token: str, seal_key: str
) -> Filled:
    """Content first, so that it cannot replace the secrets file. `seal_key` is the one that the container bears.

    Raises:
        JobFailedError: a secret cannot be had, or the image's manifest is wrong.
        EngineError: the engine refused.
        VaultError: Vault did not answer for too long.
    """
    values = await _secrets(parts, container_id, opened, content, job_token)
    if content.archive:
        await parts.engine.put_archive(container_id, content.archive)
    passwd = passwd_member(await parts.engine.read_file(container_id, PASSWD))
    secrets = secrets_member(values, opened.job.secret_file_type, compat=parts.compat)
    await parts.engine.put_archive(container_id, overlay(passwd, secrets))
    return Filled(values, Seal.of(secrets, seal_key))


async def _secrets(
    parts: Parts, container_id: str, opened: Opened, content: Content, job_token: str
) -> Mapping[str, Any]:
    document = await parts.engine.read_file(container_id, IMAGE_MANIFEST)
    image = await asyncio.to_thread(_image_manifest, document)
    refs = secret_refs(opened.job, content.manifest, image, opened.request_refs)
    lenient = opened.job.cont_on_warnings
    values = dict(await parts.opener.secrets(refs, job_token, cont_on_warnings=lenient))
    if exposes_token(opened.job, compat=parts.compat):
        values["TOKEN"] = job_token
    return values


def _image_manifest(document: bytes | None) -> Manifest:
    return parse_manifest(document, name="gostint_image.yml", reason="image") if document else Manifest()
