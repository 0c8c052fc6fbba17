"""A service's own login, on a real server."""

import asyncio

import pytest

from stint.core.errors import VaultDeniedError, VaultRefusedError
from stint.vault import AppRoleSession, Login, Vault
from tests.support.servers import OpenBao
from tests.support.vault_bench import Bench, make_bench


@pytest.fixture
async def bench(openbao: OpenBao) -> Bench:
    return await make_bench(openbao)


class CountingVault(Vault):
    """The real one; counts logins and can shorten what they say about their life."""

    def __init__(self, address: str, ttl: float | None = None) -> None:
        super().__init__(address)
        self.logins: list[Login] = []
        self._ttl = ttl

    async def login(self, role_id: str, secret_id: str) -> Login:
        login = await super().login(role_id, secret_id)
        self.logins.append(login)
        return login if self._ttl is None else Login(login.token, self._ttl)


async def session_for(bench: Bench, vault: Vault) -> AppRoleSession:
    await bench.admin(lambda c: c.auth.approle.create_or_update_approle(bench.name, token_num_uses=0, token_ttl=60))
    answer = await bench.admin(lambda client: client.auth.approle.generate_secret_id(bench.name))
    return AppRoleSession(vault, bench.role_id, answer["data"]["secret_id"])


async def test_many_callers_share_one_login(bench: Bench) -> None:
    vault = CountingVault(bench.vault.address)
    session = await session_for(bench, vault)
    tokens = await asyncio.gather(*(session.token() for _ in range(20)))
    assert len(set(tokens)) == len(vault.logins) == 1
    await session.close()
    await session.close()
    with pytest.raises(VaultDeniedError):
        await vault.lookup_self(tokens[0])


async def test_a_token_near_its_end_is_replaced(bench: Bench) -> None:
    vault = CountingVault(bench.vault.address, ttl=1e-9)
    session = await session_for(bench, vault)
    assert await session.token() != await session.token()


async def test_a_lost_token_is_replaced_once_for_all_who_notice(bench: Bench) -> None:
    vault = CountingVault(bench.vault.address)
    session = await session_for(bench, vault)
    await vault.revoke_self(await session.token())
    callers = await asyncio.gather(*(session.call(vault.lookup_self) for _ in range(10)))
    assert {caller.display_name for caller in callers} == {"approle"}
    assert len(vault.logins) == 2


async def test_a_lacking_permission_is_no_reason_to_log_in_again(bench: Bench) -> None:
    vault = CountingVault(bench.vault.address)
    session = await session_for(bench, vault)
    with pytest.raises(VaultDeniedError):
        await session.call(lambda token: vault.encrypt(token, bench.name, b"x"))
    assert len(vault.logins) == 1


async def test_a_wrong_secret_id_of_a_service_is_refused_without_being_named(bench: Bench) -> None:
    with pytest.raises(VaultRefusedError) as caught:
        await AppRoleSession(bench.vault, bench.role_id, "wrong-secret-id").token()
    assert "wrong-secret-id" not in caught.value.sentence
