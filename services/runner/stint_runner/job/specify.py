"""The container that a payload asks for, as far as this runner offers it."""

from stint.core.errors import ImageError, JobFailedError, UndecodableError
from stint.core.job import Job
from stint.core.submission.limits import check_limits
from stint.core.submission.payload import JobPayload
from stint.ports import Delivery
from stint_runner.engine.port import ContainerSpec
from stint_runner.inputs.secretfile import check_file_type
from stint_runner.inputs.spec import container_spec, labels
from stint_runner.registry.references import matches
from stint_runner.runner import Runner


def spec_for(
    runner: Runner, job: Job, delivery: Delivery, payload: JobPayload, *, image: str, seal_key: str
) -> ContainerSpec:
    """The container for a payload. Nothing has been spent before it.

    `seal_key`: with it the secrets file is known again after the container has run.

    Raises:
        JobFailedError: the payload asks for what this runner does not offer.
    """
    settings, policy = runner.settings, runner.limits
    try:
        check_limits(payload)
    except UndecodableError as error:
        raise JobFailedError(error.sentence, reason="payload") from None
    limits = policy.limits(payload)
    network = policy.network_of(payload)
    check_file_type(payload.secret_file_type)
    _check_image(image, settings.images_allow)
    return container_spec(
        payload,
        image,
        labels=labels(
            job_id=job.job_id,
            token=job.token,
            runner=runner.id,
            ack=delivery.ack_subject,
            origin=delivery.origin,
            timeout=limits.timeout,
            seal_key=seal_key if payload.mask_secrets else "",
            read_only=payload.read_only,
        ),
        network=network,
        runtime=settings.job_runtime,
        limits=limits,
        vault_addr=settings.vault_external_addr or settings.vault_addr,
        vault_cacert=settings.vault_cacert,
        compat=bool(settings.compat),
    )


def _check_image(image: str, allowed: str) -> None:
    try:
        may_run = matches(image, allowed)
    except ImageError as error:
        raise JobFailedError(error.sentence, reason="image") from None
    if not may_run:
        raise JobFailedError(f"The image {image} is not among those that may run here.", reason="image")
