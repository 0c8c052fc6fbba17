"""Signing in at an OIDC provider, whose client is Vault: what the provider vouches for becomes a token of Vault."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlsplit

from stint.core.errors import VaultRefusedError
from stint.vault.answers import Login, data_of
from stint.vault.client import Vault
from stint.vault.hvac_adapter import check_path

WORDS: Final = 200  # characters of a provider's reason that are shown


@dataclass(frozen=True, slots=True)
class OidcBegun:
    """A sign-in that has begun."""

    url: str = field(repr=False)  # where a person continues it: at the provider
    state: str = field(repr=False)  # what the provider's answer must contain
    nonce: str = field(repr=False)  # without it Vault exchanges no code. Only who began the sign-in may know it


class Oidc:
    """Vault's auth method `oidc`, mounted at `auth/<mount>`."""

    def __init__(self, vault: Vault, *, mount: str, role: str) -> None:
        """`role`: a role of this mount, "" for the mount's default."""
        self._vault = vault
        self._mount = mount
        self._role = role

    async def begin(self, redirect_uri: str) -> OidcBegun:
        """Begin a sign-in. The provider will send the browser to `redirect_uri`.

        Raises VaultDeniedError without such a mount, VaultRefusedError without a role that allows this `redirect_uri`.
        """
        path, nonce = check_path(self._mount), secrets.token_urlsafe(32)
        fields = {"role": self._role, "redirect_uri": redirect_uri, "client_nonce": nonce}
        answer = await self._vault.call(
            "", lambda client: client.adapter.post(f"/v1/auth/{path}/oidc/auth_url", json=fields), repeatable=True
        )
        url = str(data_of(answer).get("auth_url") or "")
        state = parse_qs(urlsplit(url).query).get("state", [""])[0]
        if not state:  # this is how Vault says so
            role = self._role or "its default role"
            raise VaultRefusedError(f"Vault's auth/{self._mount} does not let {role} redirect to {redirect_uri}.")
        return OidcBegun(url, state, nonce)

    async def finish(self, state: str, nonce: str, code: str) -> Login:
        """Exchange the provider's code. Vault does that once for each sign-in, whatever comes of it.

        Raises:
            VaultRefusedError: unknown or used `state`, another `nonce`, or nobody whom the role accepts.
        """
        path = check_path(self._mount)
        query = {"state": state, "client_nonce": nonce, "code": code}
        answer = await self._vault.call(
            "", lambda client: client.adapter.get(f"/v1/auth/{path}/oidc/callback", params=query)
        )
        return Login.of(answer)


def refusal_by_provider(answer: Mapping[str, str]) -> str:
    """Why a provider has signed nobody in, as the parameters of its answer say; "" if it has."""
    if "error" not in answer:
        return ""
    return ": ".join(filter(None, (answer["error"], answer.get("error_description"))))[:WORDS]
