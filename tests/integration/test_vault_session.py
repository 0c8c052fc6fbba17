"""A service's own login, on a real server."""

import asyncio
from collections.abc import Sequence

import pytest

from stint.core.errors import VaultDeniedError, VaultRefusedError
from stint.vault import AppRoleSession, Encryptor, Login, Vault
from stint.vault.encryptor import SMALL
from tests.support.servers import OpenBao
from tests.support.vault_bench import ROLE, Bench, make_bench, set_up


@pytest.fixture
async def bench(openbao: OpenBao) -> Bench:
    return await make_bench(openbao)


class CountingVault(Vault):
    """The real one; counts logins and can shorten what they say about their life."""

    def __init__(self, address: str, ttl: float | None = None) -> None:
        super().__init__(address)
        self.attempts = 0
        self.begun = asyncio.Event()
        self.logins: list[Login] = []
        self._ttl = ttl

    async def login(self, role_id: str, secret_id: str) -> Login:
        self.attempts += 1
        self.begun.set()
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


async def test_many_callers_share_one_failure_and_the_next_one_tries_again(bench: Bench) -> None:
    """With a Vault that hangs, the twentieth would hear of it after twenty time-outs."""
    vault = CountingVault(bench.vault.address)
    session = AppRoleSession(vault, bench.role_id, "no-such-secret")
    for attempts in (1, 2):
        found = await asyncio.gather(*(session.token() for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in found} == {VaultRefusedError}
        assert len({id(error) for error in found}) == 20, "each has its own: an error holds its caller's frames"
        assert vault.attempts == attempts


async def test_a_caller_that_is_cancelled_leaves_the_login_to_the_next_one(bench: Bench) -> None:
    vault = CountingVault(bench.vault.address)
    session = await session_for(bench, vault)
    first, second = asyncio.create_task(session.token()), asyncio.create_task(session.token())
    await vault.begun.wait()
    first.cancel()
    assert await second
    assert vault.attempts == 2


async def test_a_token_near_its_end_is_replaced(bench: Bench) -> None:
    vault = CountingVault(bench.vault.address, ttl=1e-9)
    session = await session_for(bench, vault)
    assert await session.token() != await session.token()


async def test_a_lost_token_is_replaced_once_for_all_and_a_lacking_permission_replaces_none(bench: Bench) -> None:
    vault = CountingVault(bench.vault.address)
    session = await session_for(bench, vault)
    await vault.revoke_self(await session.token())
    callers = await asyncio.gather(*(session.call(vault.lookup_self) for _ in range(10)))
    assert {caller.display_name for caller in callers} == {"approle"}
    assert len(vault.logins) == 2
    with pytest.raises(VaultDeniedError):
        await session.call(lambda token: vault.encrypt(token, bench.name, b"x"))
    assert len(vault.logins) == 2


class WatchedVault(CountingVault):
    """Counts calls that encrypt, and what they encrypt."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.sizes: list[int] = []
        self.encrypting = asyncio.Event()

    async def encrypt_all(self, token: str, key: str, texts: Sequence[tuple[bytes, bytes]]) -> Sequence[str]:
        self.sizes.append(len(texts))
        self.encrypting.set()
        return await super().encrypt_all(token, key, texts)


async def test_what_is_asked_for_during_a_call_is_encrypted_by_the_next_one(openbao: OpenBao) -> None:
    settings = await set_up(openbao)
    vault = WatchedVault(openbao.address)
    session = AppRoleSession(vault, settings["STINT_API_ROLE_ID"], settings["STINT_API_SECRET_ID"])
    encryptor = Encryptor(vault, session, ROLE)
    texts = [f"text {number}".encode() for number in range(10)] + [bytes(SMALL + 1)]
    first = asyncio.create_task(encryptor.encrypt(texts[0], associated_data=b"0"))
    await vault.encrypting.wait()
    rest = asyncio.gather(*(encryptor.encrypt(text, associated_data=b"0") for text in texts[1:]))
    sealed = [await first, *await rest]
    assert sorted(vault.sizes) == [1, 1, 9]
    opened = [await vault.decrypt(openbao.root_token, ROLE, one, associated_data=b"0") for one in sealed]
    assert opened == texts
