"""Makes a container's specification from payload, content and image. The payload takes precedence over content."""

from collections.abc import Sequence
from typing import Final

import msgspec

from stint.core.errors import ImageError, JobFailedError, UndecodableError
from stint.core.job import Job
from stint.core.names.headers import (
    LABEL_ACK,
    LABEL_JOB,
    LABEL_MASKED,
    LABEL_ORIGIN,
    LABEL_QUEUE,
    LABEL_READ_ONLY,
    LABEL_RUNNER,
    LABEL_TIMEOUT,
)
from stint.core.submission.limits import check_limits
from stint.core.submission.payload import JobPayload
from stint.ports import Delivery
from stint.process.settings import RunnerSettings
from stint_runner.engine.port import ContainerSpec
from stint_runner.inputs.content import Manifest
from stint_runner.inputs.secretfile import SecretRef, check_file_type, parse_refs
from stint_runner.registry.references import matches

IMAGE_ID: Final = "sha256:"
MAX_SECRET_REFS: Final = 1000  # secret references of a job, from all sources


def container_image(payload: JobPayload, content: Manifest) -> str:
    """The image to run. Raises JobFailedError if none is named, or an id.

    An id is not a name: Docker accepts any prefix of one, so a job could guess that of the image of a running job with
    a read-only root, and read its secrets.
    """
    image = payload.container_image or content.container_image
    if not image:
        raise JobFailedError("ContainerImage is empty", reason="image")
    if image.startswith(IMAGE_ID):
        raise JobFailedError("ContainerImage is an image's id: give its name", reason="image")
    return image


def pull_always(payload: JobPayload) -> bool:
    """Whether to pull an image that is there already. Raises JobFailedError if the policy is none of its two words."""
    policy = payload.image_pull_policy
    if policy not in {"", "IfNotPresent", "Always"}:
        raise JobFailedError(f"Incorrect value for image_pull_policy: {policy}", reason="image")
    return policy == "Always"


def secret_refs(payload: JobPayload, content: Manifest, image: Manifest, request: Sequence[str]) -> list[SecretRef]:
    """References of request, image, content and payload, in this order; the last of a variable wins.

    Raises JobFailedError if one is wrong, or there are too many.
    """
    texts = [*request, *(image.secret_refs or ()), *(content.secret_refs or ()), *payload.secret_refs]
    if len(texts) > MAX_SECRET_REFS:
        sentence = f"The job has {len(texts)} secret references; at most {MAX_SECRET_REFS} are allowed."
        raise JobFailedError(sentence, reason="secrets")
    return parse_refs(texts)


def exposes_token(payload: JobPayload, *, compat: bool = False) -> bool:
    """Whether the job's Vault token goes into its container, as `VAULT_TOKEN` and as the secret `TOKEN`."""
    return payload.expose_vault_token or compat


def spec_for(
    settings: RunnerSettings, job: Job, delivery: Delivery, payload: JobPayload, *, image: str, seal_key: str
) -> ContainerSpec:
    """The container for a payload. Raises JobFailedError if that asks for what this runner does not offer.

    Nothing has been spent before. With `seal_key` the secrets file is known again after the container has run.
    """
    policy = settings.limits
    try:
        check_limits(payload)
    except UndecodableError as error:
        raise JobFailedError(error.sentence, reason="payload") from None
    limits = policy.limits(payload)
    network = policy.network_of(payload)
    check_file_type(payload.secret_file_type)
    _check_image(image, settings.images_allow)
    check_texts(payload)
    cacert = settings.vault_cacert  # on the engine's host
    ours = [f"VAULT_ADDR={settings.vault_external_addr or settings.vault_addr}", f"VAULT_CACERT={cacert}"]
    labels = {
        LABEL_JOB: job.job_id,
        LABEL_QUEUE: job.token,
        LABEL_RUNNER: settings.runner_id,
        LABEL_ACK: delivery.ack_subject,  # which must not be used on any other consumer than the origin
        LABEL_ORIGIN: delivery.origin,
        LABEL_TIMEOUT: str(limits.timeout),  # in seconds, for whoever takes the container up after its runner
    }
    if payload.mask_secrets:
        labels[LABEL_MASKED] = seal_key
    if payload.read_only:
        labels[LABEL_READ_ONLY] = "true"  # an image of the job may have to be removed with it
    return ContainerSpec(
        image=image,
        entrypoint=payload.entrypoint,
        command=payload.run,
        working_directory=payload.working_directory,
        env=(*payload.env_vars, *ours),
        tty=payload.tty,
        labels=labels,
        network=network,
        runtime=settings.job_runtime,
        binds={cacert: cacert} if cacert else {},
        hardened=not settings.compat,
        limits=limits,
        read_only=payload.read_only,
    )


def with_token(spec: ContainerSpec, token: str) -> ContainerSpec:
    """The container with the job's own Vault token, for jobs whose payload `exposes_token`."""
    return msgspec.structs.replace(spec, env=(*spec.env, f"VAULT_TOKEN={token}"))


def _check_image(image: str, allowed: str) -> None:
    try:
        may_run = matches(image, allowed)
    except ImageError as error:
        raise JobFailedError(error.sentence, reason="image") from None
    if not may_run:
        raise JobFailedError(f"The image {image} is not among those that may run here.", reason="image")


def check_texts(payload: JobPayload) -> None:
    """Refuse what the engine would refuse with an error that quotes it: a variable's value can be a secret.

    Raises JobFailedError, which names the field, never its value.
    """
    texts = {
        "entrypoint": payload.entrypoint,
        "run": payload.run,
        "working_directory": (payload.working_directory,),
        "env_vars": payload.env_vars,
    }
    for field, values in texts.items():
        if any("\0" in value for value in values):
            raise JobFailedError(f"Incorrect value in {field}: it holds a NUL", reason="payload")
    if any(value.startswith("=") or not value for value in payload.env_vars):
        raise JobFailedError("Incorrect value in env_vars: a variable has no name", reason="payload")
