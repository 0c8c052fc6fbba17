"""Logins for image registries, looked up at each pull and kept no longer; among them those of Docker's own client."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog

from stint.core.codec import decode
from stint.core.errors import ConfigError, StintError, UndecodableError
from stint_runner.registry.references import HUB, registry_name

log = structlog.get_logger()

HELPER_TIMEOUT: Final = 10.0  # seconds that a credential helper may take

_HUB_ADDRESS: Final = "https://index.docker.io/v1/"  # Docker Hub, as Docker's client calls it to a credential helper
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN_SETTINGS: Final = ("STINT_", "GOSTINT_", "VAULT_", "NATS_")
"""Prefixes of variables that a helper does not get: the runner's own secrets. The others may hold its own login."""
_TOKEN_USER: Final = "<token>"


class LoginError(StintError):
    """Whether there is a login for this registry cannot be found out."""


class RegistryLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A login for one registry: user name and password, or a token."""

    username: str = ""
    password: str = ""
    identitytoken: str = ""  # the engine exchanges it for a token of the registry
    registrytoken: str = ""

    def __repr__(self) -> str:
        return "RegistryLogin()"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """For rich, which would otherwise show every field."""
        return []

    def __bool__(self) -> bool:
        return bool(self.password or self.identitytoken or self.registrytoken)

    def header(self, registry: str) -> str:
        """The value of `X-Registry-Auth`."""
        fields = {name: value for name, value in msgspec.structs.asdict(self).items() if value}
        return base64.urlsafe_b64encode(json.dumps(fields | {"serveraddress": registry}).encode()).decode()

    def hidden_in(self, text: str) -> str:
        """The text without this login, in case a registry repeats what it was sent."""
        basic = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        for secret in (basic, self.password, self.identitytoken, self.registrytoken):
            text = text.replace(secret, "***") if secret else text
        return text


class LoginSource(Protocol):
    """A place that has logins."""

    async def login(self, registry: str) -> RegistryLogin | None:
        """The login for a registry, named as by `registry_name`; None if there is none. Raises LoginError."""


def entry_of(entries: Mapping[str, Any], registry: str) -> Any:
    """The entry of a registry, by its own name first, then by another spelling; None if there is none."""
    if registry in entries:
        return entries[registry]
    return next((entry for name, entry in entries.items() if registry_name(name) == registry), None)


class _Entry(RegistryLogin, frozen=True, kw_only=True):
    auth: str = ""


class _Config(msgspec.Struct, rename="camel"):
    auths: dict[str, _Entry] | None = None
    cred_helpers: dict[str, str] | None = None
    creds_store: str | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    """A credential helper's."""

    username: str
    secret: str


class DockerConfigLogins:
    """Logins of a `config.json`, as `docker login` writes it, read again at each pull.

    A registry's credential helper, which gets `timeout` seconds, comes before the store of credentials, and that before
    what stands in the file. The `folder` need not exist; "" is `.docker` in the home folder.
    """

    def __init__(self, folder: str = "", *, timeout: float = HELPER_TIMEOUT) -> None:
        self._named = bool(folder)
        self._path = Path(folder or "~/.docker", "config.json")
        self._timeout = timeout

    def check(self) -> None:
        """Raise ConfigError if the file cannot be read now. If nobody named it, that is only logged."""
        try:
            self._read()
        except LoginError as error:
            if self._named:
                raise ConfigError(f"DOCKER_CONFIG: {error.sentence}") from None
            log.warning("no registry logins", error=error.sentence)

    async def login(self, registry: str) -> RegistryLogin | None:
        """See `LoginSource`."""
        config = await asyncio.to_thread(self._read)
        if helper := entry_of(config.cred_helpers or {}, registry) or config.creds_store:
            return await self._ask_helper(helper, registry)
        entry = entry_of(config.auths or {}, registry)
        return None if entry is None else _login(entry, registry)

    def _read(self) -> _Config:
        """The file's content; nothing where there is no file, or no home folder."""
        try:
            return decode(self._path.expanduser().read_bytes(), _Config)
        except (FileNotFoundError, NotADirectoryError, RuntimeError):
            return _Config()
        except OSError as error:
            raise LoginError(f"{self._path} cannot be read ({type(error).__name__}).") from None
        except UndecodableError:
            raise LoginError(f"{self._path} is not a configuration of Docker's client.") from None

    async def _ask_helper(self, helper: str, registry: str) -> RegistryLogin | None:
        """The answer of `docker-credential-<helper> get`; if that fails, it has no login."""
        if not _HELPER_NAME.fullmatch(helper):
            raise LoginError(f"{self._path} names a credential helper that cannot be one.")
        program = f"docker-credential-{helper}"
        try:
            code, answer = await self._run(program, _HUB_ADDRESS if registry == HUB else registry)
        except TimeoutError:
            raise LoginError(f"{program} did not answer within {self._timeout:g} s.") from None
        except OSError as error:
            raise LoginError(f"{program} cannot be run ({type(error).__name__}).") from None
        if code:
            log.info("credential helper has no login", helper=program, registry=registry, exit_code=code)
            return None
        return _from_helper(answer, program)

    async def _run(self, program: str, server: str) -> tuple[int, bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_SETTINGS)}
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._timeout):
                answer, _ = await process.communicate(server.encode())
        finally:
            with contextlib.suppress(ProcessLookupError):  # with its children
                os.killpg(process.pid, signal.SIGKILL)
            code = await process.wait()
        return code, answer


def _from_helper(answer: bytes, program: str) -> RegistryLogin | None:
    try:
        found = decode(answer, _Answer)
    except UndecodableError:
        found = None  # the error that it comes from may show what was said
    if found is None:
        raise LoginError(f"{program} did not answer as a credential helper does.")
    if found.username == _TOKEN_USER:
        return RegistryLogin(identitytoken=found.secret)
    return RegistryLogin(username=found.username, password=found.secret) or None


def _login(entry: _Entry, registry: str) -> RegistryLogin | None:
    """None for the empty entry that `docker login` writes if a helper keeps the login."""
    fields = msgspec.structs.asdict(entry)
    if auth := fields.pop("auth"):
        fields["username"], fields["password"] = _decoded(auth, registry)
    return RegistryLogin(**fields) or None


def _decoded(auth: str, registry: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except ValueError:  # also of base64 and of UTF-8
        username, colon, password = "", "", ""
    if not colon:
        raise LoginError(f"The login for {registry} in Docker's configuration is not base64 of `user:password`.")
    return username, password.rstrip("\0")
