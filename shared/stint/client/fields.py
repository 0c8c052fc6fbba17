"""A job's fields, and a list's filter, as a caller of the library gives them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypedDict, cast

import msgspec

from stint.core.codec import encode
from stint.core.errors import ConfigError, UndecodableError
from stint.core.names.ids import normalise_queue_name
from stint.core.submission.limits import Limits, check_limits
from stint.core.submission.payload import JobPayload, convert, merge


class JobFields(TypedDict, total=False):
    """The fields of a job besides its queue. What is not given is the image's, or the server's default."""

    image: str
    """The image, in the form that `docker pull` accepts. A gostint.yml in the content may name it instead."""
    run: Sequence[str]
    """The command; overrides the image's command."""
    entrypoint: Sequence[str]
    """Overrides the image's entrypoint."""
    secrets: Mapping[str, str]
    """Secrets to inject, by name: where each is in Vault, as `path.key`; paths of KV version 2 include `data/`."""
    env: Mapping[str, str]
    """Environment variables. Not for secrets."""
    content: Path | str | BinaryIO
    """A folder, a .tar.gz file, or a file that is open: unpacked over the container's `/` before the start."""
    workdir: str
    """Overrides the image's working directory."""
    pull: Literal["", "IfNotPresent", "Always"]
    """When the image is pulled."""
    secret_file_type: Literal["", "yaml", "json"]
    """Format of the secrets file: `/secrets.yml` or `/secrets.json`."""
    cont_on_warnings: bool
    """Continue if Vault warns about a secret's path."""
    tty: bool
    """Give the command a terminal; its output is then one stream."""
    expose_vault_token: bool
    """Put the job's own Vault token into its container."""
    timeout: float
    """Seconds that the container may run."""
    mask_secrets: bool
    """Mask the values of the job's secrets in its output."""
    on_lost: Literal["", "advance", "hold"]
    """What the queue does if the job's runner is lost."""
    cpus: float
    """Number of processors, such as 0.5."""
    memory: int | str
    """Bytes, or a number with `k`, `m`, `g` or `t` (powers of 1024)."""
    pids: int
    """Processes and threads at a time."""
    network: Literal["", "bridge", "none"]
    """The container's network."""
    read_only: bool
    """Make the container's root file system read-only."""


class JobFilter(TypedDict, total=False):
    """Which jobs to list."""

    queue: str
    """Only jobs of this queue."""
    status: str
    """Only jobs with this status."""
    held: bool
    """Only jobs that are held, or that are not."""
    since: datetime
    """Only jobs submitted at this time or later; one without a zone is UTC."""
    until: datetime
    """Only jobs submitted before this time."""
    id: str
    """Only jobs whose id begins or ends like this."""
    image: str
    """Only jobs whose image's name contains this."""
    who: str
    """Only jobs that this display name submitted."""
    text: str
    """Only jobs whose reason or error contains this."""


_NAMES: Final = {
    "image": "container_image",
    "pull": "image_pull_policy",
    "workdir": "working_directory",
    "env": "env_vars",
    "secrets": "secret_refs",
}
"""The payload's names of fields that have another one here."""
_PARAMETERS: Final = {"queue": "qname", "text": "q"}
"""The same for the parameters of lists."""


def payload_of(queue: str, fields: JobFields, *, base: JobPayload = JobPayload()) -> JobPayload:  # noqa: B008 - frozen
    """The job. Reads the content from the disk. What the fields do not give is that of `base`; lists of names add up.

    Raises InvalidQueueNameError if the queue's name is wrong, and ConfigError if a field is, or if there is neither an
    image nor content. The message contains no value.
    """
    given = cast("Mapping[str, object]", fields)
    if unknown := sorted(given.keys() - JobFields.__annotations__.keys()):
        raise ConfigError(f"A job has no field {', '.join(unknown)}.")
    if any(not name or "=" in name for name in fields.get("env", {})):
        raise ConfigError("The name of an environment variable is not empty, and contains no =.")
    # A limit of 0 that is given takes back that of the base: it is no unset field, for which `merge` would take it.
    base = msgspec.structs.replace(base, **{name: 0 for name in Limits.__struct_fields__ if name in given})
    values = {_NAMES.get(name, name): value for name, value in given.items()}
    values["qname"] = normalise_queue_name(queue or base.qname)
    values["env_vars"] = [*base.env_vars, *(f"{name}={value}" for name, value in fields.get("env", {}).items())]
    values["secret_refs"] = [*base.secret_refs, *(f"{name}@{at}" for name, at in fields.get("secrets", {}).items())]
    values["content"] = _packed(content) if (content := fields.get("content")) else ""
    try:
        job = merge(convert(msgspec.to_builtins(values), JobPayload), base)
        check_limits(job)
        encode(msgspec.structs.replace(job, content=""))
    except UndecodableError as error:
        raise ConfigError(f"The job's fields are wrong: {error.sentence}") from None
    except UnicodeEncodeError:
        raise ConfigError("The job's fields are wrong: a text is not valid Unicode.") from None
    if not job.container_image and not job.content:
        raise ConfigError("Give an image, or content whose gostint.yml names one.")
    return job


def _packed(content: Path | str | BinaryIO) -> str:
    from stint.client.submitting.pack import pack  # noqa: PLC0415 - archives take 10 ms to import, and lists have none

    return pack(content)


def params_of(wanted: JobFilter) -> Mapping[str, str]:
    """The filter as parameters of a request."""
    given = cast("Mapping[str, str | bool | datetime]", wanted)
    return {_PARAMETERS.get(name, name): _text(value) for name, value in given.items()}


def _text(value: str | bool | datetime) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else value
