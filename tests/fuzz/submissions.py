"""Payloads and submissions: JSON from whoever may seal, or may send a request."""

from typing import Any

from stint.core.codec import encode
from stint.core.errors import InvalidQueueNameError, StintError, TooLargeError, UndecodableError
from stint.core.submission.jsontext import Scanner
from stint.core.submission.limits import check_limits
from stint.core.submission.payload import merge, parse_payload
from stint_api.submit.body import check_sealed, parse_submission
from stint_runner.inputs.spec import check_texts
from tests.fuzz.target import MARK, Target, refused_well


def check(data: bytes, _servers: Any) -> None:
    """A payload is read, or refused with a sentence that has none of it. How its bytes are cut makes no difference."""
    with refused_well(StintError):
        payload = parse_payload(data)
        assert parse_payload(encode(payload)) == payload == merge(payload, payload)
        check_limits(payload)
        check_texts(payload)
    whole, pieces = _scanned(data, len(data) or 1), _scanned(data, 3)
    assert whole == pieces
    if isinstance(whole, str):
        return
    with refused_well(UndecodableError, TooLargeError, InvalidQueueNameError):
        submission = parse_submission(whole)
        assert MARK not in repr(submission)
        assert len(submission.digest) == 64
        check_sealed(submission.envelope.payload)


def _scanned(data: bytes, size: int) -> bytes | str:
    scanner = Scanner()
    try:
        return b"".join(scanner.feed(data[start : start + size]) for start in range(0, len(data), size))
    except StintError as error:
        return error.sentence


WORDS = [b'\\"', b"\\ud800", b"1e400", b"[" * 101, b"9" * 400, b"null", b"true", b'"":', b"\xef\xbb\xbf", b"NaN"]
TARGET = Target(name="submissions", check=check, words=WORDS)
