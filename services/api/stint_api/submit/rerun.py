"""Running a job again: its sealed payload, which was kept, with a fresh wrapping token."""

from http import HTTPStatus
from typing import Final

from msgspec.structs import replace

from stint.core.errors import UndecodableError
from stint.core.events import Submitted
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.core.submission.jsontext import read_object
from stint.core.submission.payload import JobPayload, convert
from stint.jetstream.payloads import CHUNK_BYTES, MAX_CHUNKS
from stint.ports import KeptPayloads
from stint_api.errors import RefusalError
from stint_api.submit.body import Envelope, Sealed, Submission

NOT_OVER: Final = "The job has not ended yet. Only a job that is over can be run again."
LARGEST: Final = MAX_CHUNKS * CHUNK_BYTES
"""Bytes of a payload."""
NOT_KEPT: Final = "The payload of this job is not kept, so that it cannot be run again. Submit the job anew."


def parse_rerun(body: bytes) -> Envelope:
    """Parse what `read_body` returned; only the wrapping token counts. Raises as `parse_submission` does."""
    return convert(read_object(body, {"wrap_secret_id"}, scanned=True), Envelope)


def again(job: Job, envelope: Envelope, kept: KeptPayloads) -> Submission:
    """A submission of the same sealed payload to the same queue. The payload is read when it is stored.

    Raises:
        RefusalError: the job is not over, or its payload was not kept. When the submission is stored: it has expired.
    """
    submitted = job.fact(Submitted)
    if not job.terminal:
        raise RefusalError(HTTPStatus.BAD_REQUEST, NOT_OVER)
    # A publisher writes anything.
    if submitted is None or not submitted.payload_digest or not 0 < submitted.payload_bytes <= LARGEST:
        raise RefusalError(HTTPStatus.GONE, NOT_KEPT, _id=job.job_id)
    digest, size = submitted.payload_digest, submitted.payload_bytes
    image, tty = submitted.container_image, submitted.tty

    async def read() -> Sealed:
        try:
            return Sealed(await kept.get(job.token, job.job_id, digest, size), container_image=image, tty=tty)
        except UndecodableError:
            raise RefusalError(HTTPStatus.GONE, NOT_KEPT, _id=job.job_id) from None

    return Submission(
        replace(envelope, qname=queue_name(job.token)),
        JobPayload(on_lost=submitted.on_lost),
        size,
        rerun_of=job.job_id,
        sealed=read,
    )
