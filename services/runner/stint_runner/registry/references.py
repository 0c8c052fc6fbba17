"""Image references: their grammar, what to pull for them, and which may run."""

import fnmatch
import re
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from stint.core.errors import ImageError

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
_LONGEST: Final = 1024
"""Characters of name, tag and digest. To search the megabytes that a payload can have takes seconds, in which a runner
would do nothing else."""

HUB: Final = "docker.io"  # the registry of names without a host
_HUB_OLD_NAME: Final = "index.docker.io"

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
    def registry(self) -> str:
        """Host, and port where it has one: what a login is looked up by."""
        host, slash, _ = self.name.partition("/")
        named = slash and (host == "localhost" or "." in host or ":" in host or host != host.lower())
        return registry_name(host) if named else HUB

    @property
    def listed(self) -> str:
        """As the engine lists what was pulled by this: without Docker Hub's name, and with the digest or the tag."""
        name = self.name
        if self.registry == HUB:
            name = re.sub(r"^(?:(?:index\.)?docker\.io/)?(?:library/(?=[^/]+$))?", "", name)
        return f"{name}@{self.digest}" if self.digest else f"{name}:{self.tag}"

    @property
    def pull_tag(self) -> str:
        """Tag or digest to pull, the digest where there are both."""
        return self.digest or self.tag


def parse_reference(image: str) -> Reference:
    """Read a reference as `docker pull` would: `:latest` without tag and digest. Raises ImageError if it is none."""
    if not image:
        raise ImageError("ContainerImage is empty")
    match = _REFERENCE.fullmatch(image) if len(image) <= _LONGEST else None
    if match is None or len(match["name"]) > _NAME_MAX:
        raise ImageError(f"invalid reference format: {image}")
    tag, digest = match["tag"] or "", match["digest"] or ""
    return Reference(match["name"], tag if tag or digest else "latest", digest)


def own_names(tags: Sequence[str], digests: Sequence[str], ours: Collection[str]) -> list[str] | None:
    """The names to remove before an image can be removed, None if somebody else gave it a name.

    `tags` are `name:tag`; `digests` are `name@digest` for each name that it was ever pulled by; `ours` are names as
    in `Reference.listed`.
    """
    repositories = {parse_reference(name).name for name in ours}
    tagged = {parse_reference(tag).name for tag in tags}
    foreign = [tag for tag in tags if tag not in ours]
    foreign += [digest for digest in digests if parse_reference(digest).name not in repositories]
    return None if foreign else [*tags, *(digest for digest in digests if parse_reference(digest).name not in tagged)]


def registry_name(address: str) -> str:
    """The registry of an address in a configuration file, such as `host:5000` or `https://index.docker.io/v1/`."""
    host = address.strip().partition("://")[2] or address.strip()
    host = host.partition("/")[0].lower()
    return HUB if host == _HUB_OLD_NAME else host


def matches(image: str, patterns: str) -> bool:
    """Whether an image may run: comma-separated shell patterns, case-sensitive, of which none allows nothing.

    They are compared with the reference as given, and with its tag; `*` also stands for `/`. Raises ImageError if it is
    not a reference.
    """
    names = {image, str(parse_reference(image))}
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted for name in names)


def is_transient(pull_error: str) -> bool:
    """Whether to retry a pull that failed: after time-outs, a registry's 5xx, and broken connections.

    It matches an engine's text, because Docker 26 answers 500 to all of "no such host", a time-out, and a
    registry's 404, 429 or 503, or reports them in a stream with status 200. An unknown text counts as final.
    """
    return "no such host" not in pull_error and _TRANSIENT.search(pull_error) is not None


def all_attempts_failed(errors: list[str], *remarks: str) -> str:
    """The error of a pull: one numbered line per attempt, then the remarks."""
    numbered = (f"#{number}: {error}" for number, error in enumerate(errors, 1))
    return "\n".join(["All attempts fail:", *numbered, *remarks])
