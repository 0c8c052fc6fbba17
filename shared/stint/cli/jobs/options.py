"""The options of a job, which `stint run` and `stint submit` share."""

import os
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import typer

from stint.cli.calling import queues
from stint.cli.errors import say
from stint.cli.settings import Profile, Url, is_there, where
from stint.client import Endpoints, JobFields, payload_of
from stint.client.options import DEFAULT_WRAP_TTL
from stint.core.codec import decode
from stint.core.errors import ConfigError, UndecodableError
from stint.core.submission.jsontext import names_in
from stint.core.submission.payload import JobPayload, parse_payload
from stint.process.env_file import read_variables

Words = list[str] | None
STDIN: Final = "-"
_VARIABLE: Final = ("NAME=…", r"[^=]+=.*")
_SECRET: Final = ("NAME@path.key", r"[^@]+@.*\..*")
_NOT_GIVEN: Final[tuple[object, ...]] = (None, "", [])
"""Values of options that were not given. 0 is none of them: it takes back what --job-json limits."""


def _of_form(form: str, pattern: str) -> Callable[[Words], Words]:
    """Check values. The error does not repeat them, because a mistyped value may be a secret."""

    def check(values: Words) -> Words:
        if not all(re.fullmatch(pattern, value, re.DOTALL) for value in values or ()):
            raise typer.BadParameter(f"A value must have the form {form}")
        return values

    return check


def _words(text: str) -> list[str]:
    """Read a list in GoStint's form. The error does not repeat it, as above."""
    try:
        return decode(os.fsencode(text or "[]"), list[str])
    except UndecodableError:
        raise typer.BadParameter("The value must be a JSON list of texts.") from None


def _gostint(*names: str, **more: Any) -> Any:
    return typer.Option(*names, hidden=True, **more)


Pull = Literal["IfNotPresent", "Always"] | None
SecretFileType = Literal["yaml", "json"] | None


@dataclass(kw_only=True)
class _GoStintOptions:
    """Options as GoStint's client spells them. `--help` does not show them: it would have no room for the others."""

    image_gostint: Annotated[str, _gostint("-image")] = ""
    queue_gostint: Annotated[str, _gostint("--qname", "-qname")] = ""
    content_gostint: Annotated[str, _gostint("-content")] = ""
    job_json_gostint: Annotated[str, _gostint("-job-json")] = ""
    pull_gostint: Annotated[Pull, _gostint("--image-pull-policy", "-image-pull-policy", case_sensitive=False)] = None
    secret_file_type_gostint: Annotated[SecretFileType, _gostint("-secret-filetype", case_sensitive=False)] = None
    cont_on_warnings_gostint: Annotated[bool, _gostint("-cont-on-warnings")] = False
    run: Annotated[Any, _gostint("--run", "-run", parser=_words)] = None
    entrypoint_list: Annotated[Any, _gostint("-entrypoint", parser=_words)] = None
    env_vars: Annotated[Any, _gostint("--env-vars", "-env-vars", parser=_words, callback=_of_form(*_VARIABLE))] = None
    secret_refs: Annotated[
        Any, _gostint("--secret-refs", "-secret-refs", parser=_words, callback=_of_form(*_SECRET))
    ] = None


@dataclass(kw_only=True)
class JobOptions(_GoStintOptions):
    """A job as options describe it. `--help` shows them in this order. Those of `JobFields` have its names."""

    command: Annotated[Words, typer.Argument(metavar="COMMAND", help="The command, with its own options.")] = None
    image: Annotated[str, typer.Option(help="The container image. A gostint.yml in the content may name it.")] = ""
    queue: Annotated[str, typer.Option(help="The queue. Its jobs run one at a time.", autocompletion=queues)] = ""
    secret: Annotated[
        Words, typer.Option(callback=_of_form(*_SECRET), help="A secret for the container, as NAME@path.key.")
    ] = None
    env: Annotated[
        Words,
        typer.Option(callback=_of_form(*_VARIABLE), help="An environment variable, as NAME=value. Not for secrets."),
    ] = None
    env_file: Annotated[
        str, typer.Option(help="A file of NAME=value lines, quoted as for a shell, or - for standard input.")
    ] = ""
    content: Annotated[
        str, typer.Option(help="A folder or .tar.gz, unpacked over the container's /; - reads a .tar.gz.")
    ] = ""
    job_json: Annotated[
        str, typer.Option(help="A file with the job as JSON, or -; options are added, or count before it.")
    ] = ""
    entrypoint: Annotated[
        Words, typer.Option(help="Overrides the image's entrypoint; repeat the option for each word.")
    ] = None
    workdir: Annotated[str, typer.Option(help="Overrides the image's working directory.")] = ""
    pull: Annotated[Pull, typer.Option(case_sensitive=False, help="When to pull the image. Default: IfNotPresent.")] = (
        None
    )
    secret_file_type: Annotated[
        SecretFileType, typer.Option(case_sensitive=False, help="Format of the secrets file. Default: yaml.")
    ] = None
    tty: Annotated[bool, typer.Option("--tty", help="Give the command a terminal.")] = False
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds that it may run. Default: the runner's.")] = None
    cpus: Annotated[float | None, typer.Option(min=0, help="Processors, such as 0.5. Default: the runner's.")] = None
    memory: Annotated[str, typer.Option(help="Bytes, or a number with k, m, g or t. Default: the runner's.")] = ""
    pids: Annotated[int | None, typer.Option(min=0, help="Processes and threads at a time. Default: the runner's.")] = (
        None
    )
    network: Annotated[
        Literal["bridge", "none"] | None, typer.Option(help="The container's network. Default: the runner's.")
    ] = None
    read_only: Annotated[bool, typer.Option("--read-only", help="Make the container's root read-only.")] = False
    mask_secrets: Annotated[bool, typer.Option("--mask-secrets", help="Mask the secrets' values in its output.")] = (
        False
    )
    on_lost: Annotated[
        Literal["advance", "hold"] | None,
        typer.Option(help="What the queue does if the job's runner is lost. Default: the runner's."),
    ] = None
    cont_on_warnings: Annotated[bool, typer.Option("--cont-on-warnings", help="Continue if Vault warns.")] = False
    expose_vault_token: Annotated[
        bool, typer.Option("--expose-vault-token", help="Put the job's Vault token into its container.")
    ] = False
    key: Annotated[str, typer.Option(help="Names the job: a second submission with the same key is the same job.")] = ""
    wrap_ttl: Annotated[str, typer.Option(help="How long the job may wait in its queue: 90m, 24h, 7d.")] = (
        DEFAULT_WRAP_TTL
    )
    url: Url = ""
    profile: Profile = ""
    role: Annotated[str, typer.Option(help="The jobs' AppRole. [env var: STINT_ROLE]", show_default=False)] = ""

    def where(self) -> Endpoints:
        """The addresses and the token. Raises what `stint.cli.settings.where` does."""
        found = where(self.url, self.profile)
        return replace(found, role=self.role) if self.role else found

    def payload(self) -> JobPayload:
        """The job. Reads files and standard input. Raises ConfigError if that fails, or if a field is wrong."""
        given = {name: value for name in JobFields.__annotations__ if (value := self._either(name)) not in _NOT_GIVEN}
        content = self._either("content")
        fields = given | {
            "run": self.command or self.run or [],
            "entrypoint": self.entrypoint or self.entrypoint_list or [],
            "secrets": _pairs([*(self.secret or ()), *(self.secret_refs or ())], "@"),
            "env": {**_env_file(self.env_file), **_pairs([*(self.env or ()), *(self.env_vars or ())], "=")},
            "content": sys.stdin.buffer if content == STDIN else content,
        }
        return payload_of(self._either("queue"), cast("JobFields", fields), base=_job_file(self._either("job_json")))

    def _either(self, name: str) -> Any:
        """An option, which GoStint's client may spell otherwise."""
        value = getattr(self, name, None)
        return value or getattr(self, f"{name}_gostint", value)


@dataclass(kw_only=True)
class RunOptions(JobOptions):
    """The options of `stint run`."""

    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and do not wait.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only the job's output, and errors.")] = False


def _pairs(values: list[str], mark: str) -> dict[str, str]:
    parts = (value.partition(mark) for value in values)
    return {name: rest for name, _, rest in parts}


def _env_file(name: str) -> dict[str, str]:
    return dict(read_variables(_path("--env-file", name))) if name else {}


def _job_file(name: str) -> JobPayload:
    """GoStint's client writes an @ before the name."""
    if not name:
        return JobPayload()
    path = _path("--job-json", name.removeprefix("@"))
    try:
        data = path.read_bytes().removeprefix(BOM_UTF8)
        job = parse_payload(data)
    except OSError as error:
        raise ConfigError(f"--job-json: {path} cannot be read: {error.strerror}.") from None
    except UndecodableError as error:
        raise ConfigError(f"--job-json: {path} is not a job: {error.sentence}") from None
    _warn_of_unknown(path, data)
    return job


def _warn_of_unknown(path: Path, data: bytes) -> None:
    """They are no error, because GoStint ignores them."""
    if unknown := ", ".join(name for name in names_in(data) if name.lower() not in JobPayload.__struct_fields__):
        with suppress(OSError):  # what cannot be shown must not cost the job
            say(f"--job-json: {path} has fields that no job has; they are ignored: {unknown}")


def _path(option: str, name: str) -> Path:
    path = Path("/dev/stdin" if name == STDIN else name)
    if not is_there(path):
        raise ConfigError(f"{option}: there is no {path}.")
    return path
