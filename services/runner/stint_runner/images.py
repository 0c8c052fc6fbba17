"""Image references: their grammar, what the engine is asked for, and which may run."""

import fnmatch
import re
from typing import Final

import msgspec

from stint.errors import ImageError

# The grammar of the distribution project's reference format, version 2.
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_PART: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE: Final = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_NAME_MAX: Final = 255

_TRANSIENT: Final = re.compile(
    r"time(?:d )?-?out|deadline exceeded|HTTP status: 5\d\d|connection refused|connection reset|\bEOF\b"
    r"|toomanyrequests|temporary failure|server misbehaving|unreachable",
    re.IGNORECASE,
)


class Reference(msgspec.Struct, frozen=True):
    """An image's name, registry included where it has one, with a tag, a digest, or both."""

    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def pull_name(self) -> str:
        """The name to pull: without a `/` it is one of Docker Hub's library."""
        return self.name if "/" in self.name else f"docker.io/library/{self.name}"

    @property
    def pull_tag(self) -> str:
        """Tag or digest to pull, the digest where there are both."""
        return self.digest or self.tag


def parse_reference(image: str) -> Reference:
    """Read a reference as `docker pull` would; without tag and digest it is `:latest`.

    Raises:
        ImageError: empty, or not a reference.
    """
    if not image:
        raise ImageError("ContainerImage is empty")
    match = _REFERENCE.fullmatch(image)
    if match is None or len(match["name"]) > _NAME_MAX:
        raise ImageError(f"invalid reference format: {image}")
    tag, digest = match["tag"] or "", match["digest"] or ""
    return Reference(match["name"], tag if tag or digest else "latest", digest)


def matches(image: str, patterns: str) -> bool:
    """Whether an image may run.

    Args:
        image: the reference as given.
        patterns: comma-separated shell patterns, case-sensitive, on the reference as given or with its tag. `*` also
            stands for `/`. No pattern allows nothing.

    Raises:
        ImageError: not a reference.
    """
    names = {image, str(parse_reference(image))}
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted for name in names)


def is_transient(pull_error: str) -> bool:
    """Whether a failed pull is worth another try: time-outs, a registry's 5xx, a connection that broke.

    The one place where an engine's text is looked at: Docker 26 answers 500 alike for "no such host", a time-out, and
    a registry's 404, 429 or 503, and the same again in words inside a stream of status 200. What is not recognised
    counts as final, so a new wording costs a retry, not 25 seconds.
    """
    return "no such host" not in pull_error and _TRANSIENT.search(pull_error) is not None


def all_attempts_failed(errors: list[str]) -> str:
    """The sentence of an image that cannot be had: one numbered line per attempt."""
    return "\n".join(["All attempts fail:", *(f"#{number}: {error}" for number, error in enumerate(errors, 1))])
