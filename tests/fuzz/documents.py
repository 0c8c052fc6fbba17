"""YAML: the manifest of content and of images."""

from typing import Any

from stint.core.errors import JobFailedError
from stint_runner.inputs.content import Manifest, parse_manifest
from tests.fuzz.target import Target, check_sentence


def check(data: bytes, _servers: Any) -> None:
    """It is a manifest of text, or the job fails with a sentence that has none of it."""
    try:
        manifest = parse_manifest(data)
    except JobFailedError as error:
        check_sentence(error)
    else:
        assert isinstance(manifest, Manifest)


TARGET = Target(
    name="documents",
    check=check,
    words=[
        b"&a", b"*a", b"!!python/object:os.system", b"<<: ", b"- ", b"[" * 50, b"{" * 50, b"? ", b"|\n",
        b"\xef\xbb\xbf",
    ],
)  # fmt: skip
