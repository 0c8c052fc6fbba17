"""Request bodies, read by us: whatever their content type, and never more than allowed."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace
from starlette.requests import ClientDisconnect, Request

from stint.core.codec import encode
from stint.core.errors import TooLargeError, UndecodableError
from stint.core.events import TEXT_LENGTH, Submitted
from stint.core.job import Job
from stint.core.names.ids import normalise_queue_name, queue_name
from stint.core.submission.jsontext import Scanner, read_object
from stint.core.submission.limits import check_limits
from stint.core.submission.payload import MAX_CONTENT, JobPayload, convert, documented
from stint.jetstream.payloads import CHUNK_BYTES, MAX_CHUNKS
from stint.ports import KeptPayloads
from stint_api.errors import CLIENT_LEFT, RefusalError
from stint_api.web.bounds import Share

MAX_BYTES: Final = 30 * 1024 * 1024
"""Of a body, and of a sealed payload: Vault takes requests up to 32 MiB."""

SLICE: Final = 4 * 1024
"""Bytes of a body that are scanned at a time, before others have their turn: 3 ms if all of them are brackets."""

LONGEST_TOKEN: Final = 4096
"""Characters of a wrapping token, of which a job's first event holds the ciphertext. Vault's have some 100, and as JWT
some 500."""

_CIPHERTEXT: Final = re.compile(r"vault:v[0-9]+:[A-Za-z0-9+/]+={0,2}", re.ASCII)

NOT_OVER: Final = "The job has not ended yet. Only a job that is over can be run again."
PAYLOAD_BYTES: Final = MAX_CHUNKS * CHUNK_BYTES
"""Bytes of a payload."""
NOT_KEPT: Final = "The payload of this job is not kept, so that it cannot be run again. Submit the job anew."


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What carries a job."""

    qname: str = ""
    wrap_secret_id: Annotated[
        str,
        documented(
            "A response-wrapping token that holds a secret id of the jobs' AppRole. Spent when the job runs.",
            minLength=1,
            maxLength=LONGEST_TOKEN,
        ),
    ] = ""
    cubby_token: Annotated[
        str, documented("A Vault token in whose cubbyhole the sealed job lies. One use of it is spent.")
    ] = ""
    cubby_path: Annotated[str, documented("Where in the cubbyhole, such as `cubbyhole/job`; the key is `payload`.")] = (
        ""
    )
    payload: Annotated[
        str,
        documented(
            "The sealed job itself, as transit's `encrypt` gave it: in place of the cubbyhole.",
            pattern=r"^(vault:v[0-9]+:[A-Za-z0-9+/]+={0,2})?$",
        ),
    ] = ""

    @property
    def in_cubbyhole(self) -> bool:
        """Whether the sealed job lies in a cubbyhole."""
        return bool(self.cubby_token and self.cubby_path)

    def __repr__(self) -> str:
        return f"Envelope(qname={self.qname!r})"


_FIELDS: Final = frozenset((*Envelope.__struct_fields__, *JobPayload.__struct_fields__))


@dataclass(frozen=True, slots=True)
class Sealed:
    """A payload as it is stored, and what of it may be shown in the clear."""

    payload: bytes
    container_image: str = ""
    tty: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """A submit request. Its repr shows nothing of it.

    Attributes:
        size: bytes of the request's body, or of the payload that is run again.
        rerun_of: id of the job that it runs again, "" if none.
        sealed: reads that job's payload.
    """

    envelope: Envelope = field(repr=False)
    job: JobPayload = field(repr=False)
    size: int
    rerun_of: str = ""
    sealed: Callable[[], Awaitable[Sealed]] | None = field(default=None, repr=False)

    @property
    def qname(self) -> str:
        """The queue's name, lower-cased. Raises InvalidQueueNameError if it is not allowed."""
        return normalise_queue_name(self.envelope.qname)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all the fields, whatever their order and case: who repeats the request repeats it.

        It can be shown: nobody finds the fields from it by trying, as long as the wrapping token among them is one.
        """
        digest = hashlib.sha256(encode(replace(self.envelope, qname=self.qname)) + b"\n")
        digest.update(encode(replace(self.job, qname=self.qname)) + self.rerun_of.encode())
        return digest.hexdigest()


async def read_body(request: Request, share: Share) -> bytes:
    """The first JSON value of the body, and what stands before it.

    Raises:
        TooLargeError: over the limit, as announced or as counted; the rest is left unread.
        RefusalError: the API holds as many bytes of requests as it may; or the client left.
        UndecodableError: more complex than JSON may be here.
    """
    announced = request.headers.get("content-length", "").lstrip("0")[:20]  # Python reads no number of 4,300 digits
    if announced.isdecimal():
        _check_size(int(announced))
        share.check(int(announced))
    body, scanner, size = bytearray(), Scanner(), 0
    try:
        async for piece in request.stream():
            size += len(piece)
            _check_size(size)
            share.take(len(piece))
            for start in range(0, len(piece), SLICE):
                if start:
                    await asyncio.sleep(0)
                body += scanner.feed(piece[start : start + SLICE])
    except ClientDisconnect:
        raise RefusalError(CLIENT_LEFT, "the body is not complete") from None
    return bytes(body)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise TooLargeError(f"The request is larger than {MAX_BYTES // 1024 // 1024} MiB.")


def parse_submission(body: bytes) -> Submission:
    """Parse what `read_body` returned. Only documented fields count.

    Raises UndecodableError, with no part of the body, if it is no JSON object, or a field is wrong.
    """
    fields = read_object(body, _FIELDS, scanned=True)
    submission = Submission(convert(fields, Envelope), convert(fields, JobPayload), len(body))
    check_limits(JobPayload(on_lost=submission.job.on_lost))  # counts beside a sealed payload too
    return submission


def check_content(content: str) -> None:
    """Raise TooLargeError for content that no runner takes. Whether it is base64 is for the runner to say."""
    encoded = len(content) - content.find(",") - 1 - sum(content.count(mark) for mark in "\r\n=")
    if encoded * 3 // 4 > MAX_CONTENT:
        raise TooLargeError(f"The content is larger than {MAX_CONTENT // 1024 // 1024} MiB compressed.")


def check_sealed(payload: str) -> bytes:
    """A payload that a client sealed itself. Raises UndecodableError if it does not look like one, or TooLargeError."""
    if not _CIPHERTEXT.fullmatch(payload):
        raise UndecodableError("The payload is not a transit ciphertext.")
    _check_size(len(payload))
    return payload.encode()


def parse_rerun(body: bytes) -> Envelope:
    """Parse what `read_body` returned; only the wrapping token counts. Raises as `parse_submission` does."""
    return convert(read_object(body, {"wrap_secret_id"}, scanned=True), Envelope)


def again(job: Job, envelope: Envelope, kept: KeptPayloads) -> Submission:
    """A submission of the same sealed payload to the same queue. The payload is read when it is stored.

    Raises RefusalError if the job is not over, or its payload was not kept; when it is stored, if that has expired.
    """
    submitted = job.fact(Submitted)
    if not job.terminal:
        raise RefusalError(HTTPStatus.BAD_REQUEST, NOT_OVER)
    # A publisher writes anything.
    if submitted is None or not submitted.payload_digest or not 0 < submitted.payload_bytes <= PAYLOAD_BYTES:
        raise RefusalError(HTTPStatus.GONE, NOT_KEPT, _id=job.job_id)
    digest, size = submitted.payload_digest, submitted.payload_bytes
    image, tty = submitted.container_image[:TEXT_LENGTH], submitted.tty

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
