"""Logins for image registries. They are looked up at each pull, and kept no longer."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from stint.errors import ConfigError, StintError, VaultError, VaultUnavailableError
from stint.vault import AppRoleSession, Vault, check_path
from stint_runner.images import registry_name
from stint_runner.opening import PATIENCE
from stint_runner.waiting import patiently

log = structlog.get_logger()

_HIDDEN: Final = "***"


class LoginError(StintError):
    """It is not known whether there is a login for this registry."""


class RegistryLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A login for one registry: user name and password, or one of the tokens that stand for them.

    Attributes:
        identitytoken: with which the engine gets a token of the registry.
        registrytoken: such a token.
    """

    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:
        return "RegistryLogin()"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich shows, in place of msgspec's own, which shows every field."""
        return []

    def header(self, registry: str) -> str:
        """The value of `X-Registry-Auth`."""
        fields = {name: value for name, value in msgspec.structs.asdict(self).items() if value}
        return base64.urlsafe_b64encode(json.dumps(fields | {"serveraddress": registry}).encode()).decode()

    def hidden_in(self, text: str) -> str:
        """The text without this login, should a registry repeat what it was sent."""
        basic = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        for secret in (basic, self.password, self.identitytoken, self.registrytoken):
            text = text.replace(secret, _HIDDEN) if secret else text
        return text


class LoginSource(Protocol):
    """Where logins are kept."""

    async def login(self, registry: str) -> RegistryLogin | None:
        """The login for a registry, None if there is none.

        Args:
            registry: as `stint_runner.images.registry_name` writes it.

        Raises:
            LoginError: the source cannot be read, or holds something else.
        """
        ...


class FirstOf:
    """The first source that has a login. Without any there is none."""

    def __init__(self, *sources: LoginSource) -> None:
        self._sources = sources

    async def login(self, registry: str) -> RegistryLogin | None:
        """See `LoginSource`."""
        for source in self._sources:
            if found := await source.login(registry):
                return found
        return None


NO_LOGINS: Final = FirstOf()


class VaultLogins:
    """Logins at one path of a Vault, read with the runner's own token.

    Each key is a registry; its value is `user:password`, or an object with `username` and `password`.

    Args:
        vault: the server.
        session: the runner's login.
        path: with `data/` where it is KV v2.

    Raises:
        ConfigError: it cannot be a path.
    """

    def __init__(self, vault: Vault, session: AppRoleSession, path: str) -> None:
        try:
            self._path = check_path(path)
        except VaultError:
            raise ConfigError("STINT_REGISTRY_SECRETS: not a Vault path.") from None
        self._vault = vault
        self._session = session

    async def login(self, registry: str) -> RegistryLogin | None:
        """See `LoginSource`. Waits for a Vault that is away as long as everything else of a job."""
        try:
            found = await patiently(
                lambda: self._session.call(lambda own: self._vault.read(own, self._path)),
                on=VaultUnavailableError,
                within=PATIENCE,
            )
        except VaultError as error:
            raise LoginError(f"The registry logins in Vault cannot be read: {error.sentence}") from None
        data = (found.data if found else None) or {}
        inner = data.get("data")
        entry = entry_of(inner if isinstance(inner, Mapping) else data, registry)
        return None if entry is None else self._parse(entry, registry)

    def _parse(self, entry: Any, registry: str) -> RegistryLogin:
        if isinstance(entry, str) and ":" in entry:
            username, _, password = entry.partition(":")
            return RegistryLogin(username=username, password=password)
        try:
            login = msgspec.convert(entry, RegistryLogin)
        except msgspec.ValidationError:
            login = RegistryLogin()  # the error's text shows what stands there
        if login.password or login.identitytoken or login.registrytoken:
            return login
        raise LoginError(f"What Vault holds for {registry} at {self._path} is not a registry login.")


def entry_of(entries: Mapping[str, Any], registry: str) -> Any:
    """The entry of a registry, under its very name or another way to write it; None if there is none."""
    return next((entries[key] for key in _ways_to_write(entries, registry)), None)


def _ways_to_write(keys: Mapping[str, Any], registry: str) -> Sequence[str]:
    same = [key for key in keys if registry_name(key) == registry]
    return sorted(same, key=lambda key: key != registry)
