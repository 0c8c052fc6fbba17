"""Receipts: what is signed about a job that is over, and the exact bytes of it."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from stint.core.errors import IllegalCommandError, UndecodableError
from stint.core.events import Ended, Launched, Started, Submitted, Writer, writer_of
from stint.core.job import Job
from stint.core.output.chain import Chain
from stint.core.view import view

FORMAT: Final = "stint-receipt/1"
"""What the statement begins with, so that no other signed text can be taken for one."""
SIGNATURE_BYTES: Final = 64
NOT_OVER: Final = "The job is not over yet. There is a receipt only of a job that has ended."
MAX_BYTES: Final = 1024 * 1024
"""A file that is larger is no receipt."""


class KeyName(msgspec.Struct, frozen=True):
    """The key that signs. `sha256` is the hex digest of the public key's 32 bytes."""

    name: str
    version: int
    sha256: str

    @classmethod
    def of(cls, name: str, version: int, public_key: bytes) -> "KeyName":
        """The name of this public key."""
        return cls(name, version, hashlib.sha256(public_key).hexdigest())


class Asked(Writer, frozen=True):
    """Who submitted the job.

    If that is proven, then by the signature of an API, which writes what Vault has said; or by that of a publisher, and
    what the event says is left out.
    """

    proven: bool = False


class StatedImage(msgspec.Struct, frozen=True):
    """The image as requested, and the engine's id of it, "" if no container was made."""

    name: str
    id: str


class StatedOutput(msgspec.Struct, frozen=True):
    """The size of a job's output, the digest of its chain, and what is known of it."""

    bytes: int
    chunks: int
    digest: str
    complete: bool
    truncated: bool
    masked: int


class StatedFact(Writer, frozen=True):
    """An event that counted, when it was stored, and who wrote it."""

    kind: str
    sequence: int
    at: str


class Statement(msgspec.Struct, frozen=True, kw_only=True, rename={"queue": "qname"}):
    """What a receipt states. Times are RFC 3339 in UTC, `0001-01-01T00:00:00Z` for those that have not come."""

    format: str = FORMAT
    key: KeyName
    issued: str
    job: str
    queue: str
    asked: Asked
    payload_sha256: str
    image: StatedImage
    container_id: str
    runner: str
    submitted: str
    started: str
    ended: str
    status: str
    reason: str
    error: str
    return_code: int
    output: StatedOutput
    facts: tuple[StatedFact, ...]


class Receipt(NamedTuple):
    """A receipt that is well formed: what it states, who signed the bytes, and the signature that it carries."""

    statement: Statement
    key: KeyName
    signed: bytes
    signature: bytes


def canonical(value: Any) -> bytes:
    """JSON in the one form of RFC 8785: sorted keys, no white space, UTF-8. Without fractions, which it would round."""
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def check_over(job: Job) -> None:
    """Raise IllegalCommandError if the job has not ended: there is nothing to state."""
    if not job.terminal:
        raise IllegalCommandError(NOT_OVER)


def statement(job: Job, key: KeyName, issued: str, signer: Writer | None = None) -> Statement:
    """What a receipt states about a job that is over. It names nobody's address and no secret.

    `key` will sign it; `issued` is now, RFC 3339. `signer` is who is proven to have submitted the job, None if nobody
    is.
    """
    shown, output = view(job), Chain.recorded(job.fact(Ended))
    submitted, started, launched = job.fact(Submitted), job.fact(Started), job.fact(Launched)
    return Statement(
        key=key,
        issued=issued,
        job=job.job_id,
        queue=shown.qname,
        asked=Asked(**msgspec.structs.asdict(signer or writer_of(submitted)), proven=signer is not None),
        payload_sha256=started.payload_sha256 if started else "",
        image=StatedImage(shown.container_image, launched.image_id if launched else ""),
        container_id=shown.container_id,
        runner=job.runner,
        submitted=shown.submitted,
        started=shown.started,
        ended=shown.ended,
        status=shown.status.value,
        reason=shown.reason,
        error=shown.error,
        return_code=shown.return_code,
        output=StatedOutput(
            bytes=shown.output_bytes,
            chunks=output.chunks,
            digest=output.digest,
            complete=shown.output_complete,
            truncated=shown.output_truncated,
            masked=shown.output_masked,
        ),
        facts=tuple(
            StatedFact(
                **msgspec.structs.asdict(writer_of(fact.event)), kind=fact.kind, sequence=fact.sequence, at=fact.time
            )
            for fact in job.facts.values()
        ),
    )


def document(stated: Statement | Mapping[str, Any], signature: bytes) -> bytes:
    """The receipt as a file: one line."""
    return canonical({"receipt": stated, "signature": base64.b64encode(signature).decode()}) + b"\n"


def parse_receipt(data: bytes) -> Receipt:
    """Read a receipt without verifying it. Raises UndecodableError if it is not in the exact form of receipts."""
    if len(data) > MAX_BYTES:
        raise UndecodableError("Not a receipt: the file is too large.")
    try:
        found = json.loads(data)
        stated, text = found["receipt"], found["signature"]
        if stated["format"] != FORMAT:
            raise UndecodableError(f"The receipt's format is not {FORMAT}.")
        read = msgspec.convert(stated, Statement)
        signature = base64.b64decode(text, validate=True)
        written = document(stated, signature)
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.ValidationError):
        raise UndecodableError("Not a receipt.") from None
    if data != written or len(signature) != SIGNATURE_BYTES:
        raise UndecodableError("Not a receipt as Stint writes it: the file was changed.")
    return Receipt(read, read.key, canonical(stated), signature)
