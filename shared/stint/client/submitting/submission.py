"""The client's calls to Vault, which keep others between it and the runner from reading or replaying a job."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from stint.client.options import Endpoints
from stint.core.codec import encode
from stint.core.errors import ConfigError, VaultDeniedError, VaultRefusedError
from stint.core.submission.payload import JobPayload
from stint.vault.client import Vault
from stint.vault.hvac_adapter import check_path
from stint.vault.policies import CLIENT, SEALER

CUBBYHOLE: Final = "cubbyhole/job"
CUBBYHOLE_MAX_BYTES: Final = 512 * 1024
"""Larger payloads are sent in the request: Vault's own storage accepts entries of 1 MiB at most, Consul half of it."""

_COURIER_TTL: Final = "10m"
"""Time to live of the token that hands over the payload; it is used once, within one request."""


_DURATION: Final = re.compile(r"(?=.*[1-9])([0-9]+d?|([0-9]+(\.[0-9]+)?[hms])+)")
"""Seconds, days, or what Go reads as a duration. Not 0."""


@contextmanager
def needs(*policies: str) -> Iterator[None]:
    """Add to a VaultDeniedError from the block which policies the token needs, because Vault does not say it."""
    try:
        yield
    except VaultDeniedError as error:
        raise VaultDeniedError(
            f"{error.sentence} The token is no longer valid, or it does not have the policy {' or '.join(policies)}."
        ) from None


@asynccontextmanager
async def vault_at(where: Endpoints) -> AsyncIterator[Vault]:
    """A client's Vault; a denial says which policies the token needs."""
    async with Vault(where.vault_addr, cacert=where.vault_cacert) as vault:
        with needs(CLIENT, SEALER):
            yield vault


async def seal(vault: Vault, token: str, job: JobPayload, *, role: str, wrap_ttl: str) -> dict[str, str]:
    """Seal a job for the runners, and store it where only Stint's API can read it, once.

    Returns the fields of the request that carry it. All are secret. After a VaultError nothing has been submitted.
    """
    sealed = await vault.encrypt(token, role, encode(job))
    wrap_secret_id = await wrapped_secret_id(vault, token, role=role, wrap_ttl=wrap_ttl)
    if len(sealed) > CUBBYHOLE_MAX_BYTES:
        return {"wrap_secret_id": wrap_secret_id, "payload": sealed}
    courier = await _courier(vault, token)
    await vault.call(courier, lambda client: client.adapter.post(f"/v1/{CUBBYHOLE}", json={"payload": sealed}))
    return {"wrap_secret_id": wrap_secret_id, "cubby_token": courier, "cubby_path": CUBBYHOLE}


async def wrapped_secret_id(vault: Vault, token: str, *, role: str, wrap_ttl: str) -> str:
    """Request a wrapping token for one secret id of the role, valid for `wrap_ttl`.

    Raises ConfigError if that is no duration, or 0, with which Vault would wrap nothing; and VaultError.
    """
    if not _DURATION.fullmatch(wrap_ttl):
        raise ConfigError(f"wrap_ttl: {wrap_ttl!r} is not a duration of Vault, such as 24h, 90m or 7d.")
    name = check_path(role)
    answer = await vault.call(
        token, lambda client: client.auth.approle.generate_secret_id(role_name=name, wrap_ttl=wrap_ttl)
    )
    return _text(answer.get("wrap_info"), "token")


async def _courier(vault: Vault, token: str) -> str:
    """Create a token with two uses: one to write its cubbyhole, and one to read it."""
    answer = await vault.call(
        token,
        lambda client: client.auth.token.create(policies=["default"], num_uses=2, ttl=_COURIER_TTL, renewable=False),
    )
    return _text(answer.get("auth"), "client_token")


def _text(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str):
        raise VaultRefusedError("Vault's answer does not contain what was requested.")
    return value
