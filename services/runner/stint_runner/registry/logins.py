"""Logins for image registries. They are looked up at each pull, and kept no longer."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from stint.core.errors import StintError
from stint_runner.registry.references import registry_name

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
            registry: as `stint_runner.registry.references.registry_name` writes it.

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


def entry_of(entries: Mapping[str, Any], registry: str) -> Any:
    """The entry of a registry, under its very name or another way to write it; None if there is none."""
    return next((entries[key] for key in _ways_to_write(entries, registry)), None)


def _ways_to_write(keys: Mapping[str, Any], registry: str) -> Sequence[str]:
    same = [key for key in keys if registry_name(key) == registry]
    return sorted(same, key=lambda key: key != registry)
