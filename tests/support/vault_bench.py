"""What the tests of Vault share."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stint.vault import Vault
from stint.vault.setup import service_settings, vault_setup
from tests.support.servers import BaoProcess, OpenBao


class Bench(NamedTuple):
    """A Vault with transit and AppRole; a key and a role `name`, whose tokens live a minute and serve three times."""

    vault: Vault
    root: str
    name: str
    role_id: str

    async def admin(self, request: Callable[[Any], Any]) -> Any:
        return await self.vault.call(self.root, request)

    async def token(self, **options: Any) -> str:
        answer = await self.admin(lambda client: client.auth.token.create(policies=["default"], **options))
        return str(answer["auth"]["client_token"])

    async def wrapped_secret_id(self, wrap_ttl: str = "60s") -> str:
        return await wrapped_secret_id(self.vault, self.root, self.name, wrap_ttl)


ROLE = "stint-job"
PASSWORD = "correct horse battery staple"

_SETTINGS: dict[tuple[str, str], Mapping[str, str]] = {}
"""By a Vault's address and root token. A Vault that was started again would have forgotten all."""


async def set_up(openbao: OpenBao | BaoProcess) -> Mapping[str, str]:
    """The settings with which services log in, on a Vault that is set up the first time, with secrets at `kv/demo`."""
    address, root = openbao.address, openbao.root_token
    if (address, root) not in _SETTINGS:
        await vault_setup(address, root, role=ROLE, kv_mount="kv")
        secret = {"data": {"password": PASSWORD, "number": 7}}
        await as_root(openbao, lambda client: client.adapter.post("/v1/kv/data/demo", json=secret))
        _SETTINGS[address, root] = await service_settings(address, root, role=ROLE)
    return _SETTINGS[address, root]


async def as_root(openbao: OpenBao | BaoProcess, request: Callable[[Any], Any]) -> Any:
    return await Vault(openbao.address).call(openbao.root_token, request)


async def wrapped_secret_id(vault: Vault, token: str, role: str = ROLE, ttl: str = "600s") -> str:
    """A wrapping token around a new secret id of the jobs' role, or of another."""
    answer = await vault.call(token, lambda client: client.auth.approle.generate_secret_id(role, wrap_ttl=ttl))
    return str(answer["wrap_info"]["token"])


async def approle_token(vault: Vault, root: str, role: str) -> str:
    """Another token of the identity that has this AppRole."""
    role_id = (await vault.call(root, lambda c: c.auth.approle.read_role_id(role)))["data"]["role_id"]
    secret_id = (await vault.call(root, lambda c: c.auth.approle.generate_secret_id(role)))["data"]["secret_id"]
    return (await vault.login(role_id, secret_id)).token


async def make_bench(openbao: OpenBao) -> Bench:
    """Safe on a server that others use: only names of its own, and what is there already stays."""
    await set_up(openbao)
    vault, root, name = Vault(openbao.address), openbao.root_token, f"test-{secrets.token_hex(4)}"
    await vault.call(root, lambda client: client.secrets.transit.create_key(name))
    await vault.call(root, lambda c: c.auth.approle.create_or_update_approle(name, token_num_uses=3, token_ttl=60))
    answer = await vault.call(root, lambda client: client.auth.approle.read_role_id(name))
    return Bench(vault, root, name, answer["data"]["role_id"])
