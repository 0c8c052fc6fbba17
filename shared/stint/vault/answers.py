"""What Vault answers, as values. None of them shows its secret when it is printed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from stint.core.errors import VaultRefusedError

LAST_SECOND: Final = 0.5
"""Seconds left to a token that expires and of which Vault, which counts whole seconds, says 0."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token belongs to."""

    display_name: str  # Vault's name for the login that created the token
    num_uses: int  # remaining uses, 0 for no limit
    ttl: float  # remaining seconds, 0 for a token that does not expire, `LAST_SECOND` for one in its last second
    policies: tuple[str, ...]  # those of the token and of its identity
    entity_id: str = ""  # id of the identity behind the login, the same for all its tokens; "" if there is none
    accessor: str = field(default="", repr=False)  # identifies the token but cannot be used as one; "" for batch tokens

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From what a look-up answers. Raises VaultRefusedError if part of it is missing, or cannot be meant."""
        try:
            return cls(
                display_name=str(data["display_name"]),
                num_uses=int(data["num_uses"]),
                ttl=max(float(data["ttl"]), LAST_SECOND if data.get("expire_time") else 0.0),
                policies=tuple(map(str, (*(data.get("policies") or ()), *(data.get("identity_policies") or ())))),
                entity_id=str(data.get("entity_id") or ""),
                accessor=str(data.get("accessor") or ""),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            raise VaultRefusedError("Vault's answer about the token is incomplete.") from None


@dataclass(frozen=True, slots=True)
class WrapInfo:
    """The path that created a wrapping token, and the time (UTC) until which it can be unwrapped."""

    creation_path: str
    expires_at: datetime

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From what a look-up of the token answers. Raises VaultRefusedError as `Caller.of` does."""
        try:
            created = datetime.fromisoformat(data["creation_time"]).astimezone(UTC)
            lifetime = timedelta(seconds=float(data["creation_ttl"]))
            return cls(creation_path=str(data["creation_path"]), expires_at=created + lifetime)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise VaultRefusedError("Vault's answer about the wrapping token is incomplete.") from None


@dataclass(frozen=True, slots=True)
class Login:
    """A token from a login. `ttl` is in seconds, 0 if it does not expire."""

    token: str = field(repr=False)
    ttl: float

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """From what a login answers. Raises VaultRefusedError if there is no token in it."""
        auth = answer.get("auth") or {}
        token, ttl = auth.get("client_token"), auth.get("lease_duration") or 0
        if not isinstance(token, str) or not isinstance(ttl, int | float):
            raise VaultRefusedError("The login returned no token.")
        return cls(token=token, ttl=ttl)


@dataclass(frozen=True, slots=True)
class SecretData:
    """The secret at a path. `data` is None if Vault returned only warnings."""

    data: Mapping[str, Any] | None = field(repr=False)
    warnings: tuple[str, ...] = ()


def data_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `data` of an answer; empty if it has none."""
    data = answer.get("data")
    return data if isinstance(data, dict) else {}
