"""The client's steps at Vault, so that nobody between it and the runner can read or replay a job."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from stint.core.codec import encode
from stint.core.errors import VaultDeniedError, VaultRefusedError
from stint.core.payload import JobPayload
from stint.vault.adapter import Edge, check_path
from stint.vault.client import Vault

CUBBYHOLE: Final = "cubbyhole/job"
CUBBYHOLE_MAX_BYTES: Final = 512 * 1024
"""Larger payloads are sent along: Vault's own storage takes entries of 1 MiB at most by default, Consul's of half."""

_COURIER_TTL: Final = "10m"
"""Life of the token that hands the payload over; it is needed once, within one request."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What a submit request carries. Its repr shows none of it.

    Attributes:
        wrap_secret_id: wrapping token of a secret id of the jobs' role.
        payload: the sealed payload, "" if it is in the cubbyhole.
        cubby_token: the courier token, with one use left, "" if the payload is sent along.
    """

    wrap_secret_id: str = field(repr=False)
    payload: str = field(repr=False, default="")
    cubby_token: str = field(repr=False, default="")

    def fields(self) -> dict[str, str]:
        """As the API names them."""
        if not self.cubby_token:
            return {"wrap_secret_id": self.wrap_secret_id, "payload": self.payload}
        cubbyhole = {"cubby_token": self.cubby_token, "cubby_path": CUBBYHOLE}
        return {"wrap_secret_id": self.wrap_secret_id, **cubbyhole}


@contextmanager
def needs(*policies: str) -> Iterator[None]:
    """Say with a denial of Vault's which policies are for what was asked: Vault itself says so of no token.

    Raises:
        VaultDeniedError: in place of the one that was raised in the block.
    """
    try:
        yield
    except VaultDeniedError as error:
        raise VaultDeniedError(
            f"{error.sentence} The token is not valid any more, or lacks the policy {' or '.join(policies)}."
        ) from None


async def seal(vault: Vault, edge: Edge, token: str, job: JobPayload, *, role: str, wrap_ttl: str) -> Handover:
    """Seal a job for the runners, and put it where only Stint's API can fetch it, once.

    Raises:
        VaultError: of any kind. Nothing has been submitted.
    """
    sealed = await vault.encrypt(token, role, encode(job))
    wrap_secret_id = await wrapped_secret_id(edge, token, role=role, wrap_ttl=wrap_ttl)
    if len(sealed) > CUBBYHOLE_MAX_BYTES:
        return Handover(wrap_secret_id, payload=sealed)
    courier = await _courier(edge, token)
    await edge.call(courier, lambda client: client.adapter.post(f"/v1/{CUBBYHOLE}", json={"payload": sealed}))
    return Handover(wrap_secret_id, cubby_token=courier)


async def wrapped_secret_id(edge: Edge, token: str, *, role: str, wrap_ttl: str) -> str:
    """A wrapping token that is good for one secret id of the role, within `wrap_ttl`."""
    name = check_path(role)
    answer = await edge.call(
        token, lambda client: client.auth.approle.generate_secret_id(role_name=name, wrap_ttl=wrap_ttl)
    )
    return _text(answer.get("wrap_info"), "token")


async def _courier(edge: Edge, token: str) -> str:
    """A token with two uses: the one that writes its cubbyhole, and the one that reads it."""
    answer = await edge.call(
        token,
        lambda client: client.auth.token.create(policies=["default"], num_uses=2, ttl=_COURIER_TTL, renewable=False),
    )
    return _text(answer.get("auth"), "client_token")


def _text(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str):
        raise VaultRefusedError("Vault's answer lacks what was asked for.")
    return value
