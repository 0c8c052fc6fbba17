"""Output and the secrets to be masked in it: values, a line each, then an empty line and the output."""

from typing import Any

from stint_runner.output.redact import SHORTEST, Needles, Redactor, spellings
from tests.fuzz.target import Target
from tests.support.masks import masked, occurrences


def check(data: bytes, _servers: Any) -> None:
    """However the output is cut, the same comes out, and nothing of a value that a look at all of it would find."""
    head, _, output = data.partition(b"\n\n")
    values = [value for value in head.split(b"\n") if len(value) >= SHORTEST]
    spellings([value.decode("utf-8", "surrogateescape") for value in values])
    if not values:
        return
    needles = Needles(values)
    whole = _redacted(needles, [output])
    assert whole == _redacted(needles, [output[at : at + 1] for at in range(len(output))])
    assert whole == _redacted(needles, [output[at : at + 7] for at in range(0, len(output), 7)])
    assert whole == masked(occurrences(values, output), output)


def _redacted(needles: Needles, pieces: list[bytes]) -> bytes:
    redactor = Redactor(needles)
    return b"".join([*map(redactor.feed, pieces), redactor.flush()])


TARGET = Target(name="redaction", check=check, words=[b"abab", b"aaaa", b"ba", b"\n", b"\n\n", b"***", b"\r\n"])
