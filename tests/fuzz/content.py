"""Content: a tar in a gzip, a gzip, or the field itself, as the first byte says."""

import base64
import gzip
from typing import Any

from stint.core.errors import JobFailedError
from stint_runner.inputs.content import Content, check_content
from tests.fuzz.target import MARK, Target, refused_well


def check(data: bytes, _servers: Any) -> None:
    """It is content, or the job fails with a sentence that has none of it."""
    layer, rest = data[:1], data[1:]
    packed = gzip.compress(rest, 1, mtime=0) if layer == b"t" else rest
    field = f"targz,{base64.b64encode(packed).decode()}" if layer in {b"t", b"z"} else rest.decode("latin-1")
    with refused_well(JobFailedError):
        content = check_content(field)
        assert isinstance(content, Content)
        assert MARK not in repr(content)


WORDS = [b"\0" * 512, b"\xff" * 12, b"99999999999\0", b"\x80" + bytes(11), b"1024", b"5", b"x", b"g", b"L", b"S"]
TARGET = Target(name="content", check=check, words=WORDS)
