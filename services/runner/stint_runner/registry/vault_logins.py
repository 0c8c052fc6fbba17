"""Logins for image registries in Vault. In a module of their own, because a watchdog does not import Vault."""

from collections.abc import Mapping
from typing import Any

import msgspec

from stint.core.errors import ConfigError, VaultError
from stint.vault import AppRoleSession, Vault, check_path
from stint_runner.registry.logins import LoginError, RegistryLogin, entry_of
from stint_runner.retry import ask_vault


class VaultLogins:
    """Logins at one path of a Vault, which includes `data/` for KV v2, read with the runner's own token.

    Each key is a registry; its value is `user:password`, or an object with `username` and `password`. Raises
    ConfigError if this is not a path.
    """

    def __init__(self, vault: Vault, session: AppRoleSession, path: str) -> None:
        try:
            self._path = check_path(path)
        except VaultError:
            raise ConfigError("STINT_REGISTRY_SECRETS: not a Vault path.") from None
        self._vault = vault
        self._session = session

    async def login(self, registry: str) -> RegistryLogin | None:
        """See `LoginSource`. An unavailable Vault is waited for as in the rest of a job."""
        try:
            found = await ask_vault(lambda: self._session.call(lambda own: self._vault.read(own, self._path)))
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
            if login := msgspec.convert(entry, RegistryLogin):
                return login
        except msgspec.ValidationError:
            pass  # the error's text shows what stands there
        raise LoginError(f"What Vault holds for {registry} at {self._path} is not a registry login.")
