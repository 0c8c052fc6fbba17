"""Receipts: what is signed about a job that is over, and the exact bytes of it."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from stint.core.errors import UndecodableError
from stint.core.events import NAME_LENGTH, Ended, Launched, Record, Started, Submitted
from stint.core.job import Job
from stint.core.view import JobView, view

FORMAT: Final = "stint-receipt/1"
"""What the statement begins with, so that no other signed text can be taken for one."""
SIGNATURE_BYTES: Final = 64
MAX_BYTES: Final = 1024 * 1024
"""A file that is larger is no receipt."""

Json = dict[str, Any]


class KeyName(msgspec.Struct, frozen=True):
    """The key that signs.

    Attributes:
        name: of the transit key.
        version: of that key.
        sha256: hex digest of the public key's 32 bytes.
    """

    name: str
    version: int
    sha256: str

    @classmethod
    def of(cls, name: str, version: int, public_key: bytes) -> "KeyName":
        """The name of this public key."""
        return cls(name, version, hashlib.sha256(public_key).hexdigest())


class Receipt(NamedTuple):
    """A receipt that is well formed: what it states, who signed the bytes, and the signature that it carries."""

    statement: Mapping[str, Any]
    key: KeyName
    signed: bytes
    signature: bytes


def canonical(value: Any) -> bytes:
    """JSON in the one form of RFC 8785: sorted keys, no white space, UTF-8. Without fractions, which it would round."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def statement(job: Job, key: KeyName, issued: str) -> Json:
    """What a receipt states about a job that is over. It names nobody's address and no secret.

    Args:
        job: it has ended.
        key: that will sign.
        issued: when, RFC 3339.
    """
    shown = view(job)
    submitted, started, launched = job.fact(Submitted), job.fact(Started), job.fact(Launched)
    facts = sorted(job.facts.values(), key=lambda record: record.sequence)
    return {
        "format": FORMAT,
        "key": msgspec.to_builtins(key),
        "issued": issued,
        "job": job.job_id,
        "qname": shown.qname,
        "asked": _writer(submitted),
        "payload_sha256": started.payload_sha256 if started else "",
        "image": {"name": shown.container_image, "id": launched.image_id if launched else ""},
        "container_id": shown.container_id,
        "runner": job.runner,
        **{name: getattr(shown, name) for name in ("submitted", "started", "ended")},
        **{name: getattr(shown, name) for name in ("reason", "error", "return_code")},
        "status": shown.status.value,
        "output": _output(job, shown),
        "facts": [_fact(record) for record in facts],
    }


def _writer(event: msgspec.Struct | None) -> Json:
    names = {"who": "by", "entity": "by_entity", "accessor": "by_accessor", "nats_user": "by_nats_user"}
    return {name: getattr(event, field, "")[:NAME_LENGTH] for name, field in names.items()}


def _output(job: Job, shown: JobView) -> Json:
    ended = job.fact(Ended)
    return {
        "bytes": shown.output_bytes,
        "chunks": ended.chunks if ended else 0,
        "digest": ended.output_digest if ended else "",
        "complete": shown.output_complete,
        "truncated": shown.output_truncated,
        "masked": shown.output_masked,
    }


def _fact(record: Record) -> Json:
    return {"kind": record.kind, "sequence": record.sequence, "at": record.time, **_writer(record.event)}


def document(stated: Mapping[str, Any], signature: bytes) -> bytes:
    """The receipt as a file: one line."""
    return canonical({"receipt": stated, "signature": base64.b64encode(signature).decode()}) + b"\n"


def parse_receipt(data: bytes) -> Receipt:
    """Read a receipt, without asking whether its signature is right.

    Raises:
        UndecodableError: not a receipt, or not exactly in the form in which receipts are written.
    """
    if len(data) > MAX_BYTES:
        raise UndecodableError("Not a receipt: the file is too large.")
    try:
        found = json.loads(data)
        stated, text = found["receipt"], found["signature"]
        if stated["format"] != FORMAT:
            raise UndecodableError(f"The receipt's format is not {FORMAT}.")
        key = msgspec.convert(stated["key"], KeyName)
        signature = base64.b64decode(text, validate=True)
        written = document(stated, signature)
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.ValidationError):
        raise UndecodableError("Not a receipt.") from None
    if data != written or len(signature) != SIGNATURE_BYTES:
        raise UndecodableError("Not a receipt as Stint writes it: the file was changed.")
    return Receipt(stated, key, canonical(stated), signature)
