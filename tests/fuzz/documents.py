"""YAML: the manifest of content and of images."""

from typing import Any

from stint.core.errors import JobFailedError
from stint_runner.inputs.content import Manifest, parse_manifest
from tests.fuzz.target import Target, refused_well


def check(data: bytes, _servers: Any) -> None:
    """It is a manifest of text, or the job fails with a sentence that has none of it."""
    with refused_well(JobFailedError):
        assert isinstance(parse_manifest(data), Manifest)


OPEN = [b"[" * 50, b"{" * 50]
WORDS = [*OPEN, b"&a", b"*a", b"!!python/object:os.system", b"<<: ", b"- ", b"? ", b"|\n", b"\xef\xbb\xbf"]
TARGET = Target(name="documents", check=check, words=WORDS)
