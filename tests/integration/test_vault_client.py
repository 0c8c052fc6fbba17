"""Vault's answers, policies on queues' paths, and a service's own login, on a real server.

Each test has a key, a role or a token of its own, or only adds to those of the module.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stint.core.errors import UndecodableError, VaultDeniedError, VaultError, VaultNotFoundError, VaultRefusedError
from stint.vault import (
    BUS_KEY,
    AppRoleSession,
    Encryptor,
    Login,
    Ticket,
    Vault,
    error_text,
    open_ticket,
    queue_path,
    seal_ticket,
)
from stint.vault.actions import RELEASE
from stint.vault.answers import LAST_SECOND
from stint.vault.transit import SMALL
from tests.support.servers import OpenBao
from tests.support.vault_bench import ROLE, Bench, make_bench, set_up

TICKET = Ticket(wrap_secret_id="s.wrapping-token", payload_sha256="ab" * 32, wrap_expires_at="2026-01-02T03:04:05Z")


@pytest.fixture(scope="module")
async def bench(openbao: OpenBao) -> Bench:
    return await make_bench(openbao)


async def test_a_caller_is_looked_up(bench: Bench) -> None:
    caller = await bench.vault.lookup_self(await bench.token(num_uses=3, ttl="60s", display_name="ann"))
    assert (caller.display_name, caller.num_uses, caller.policies) == ("token-ann", 2, ("default",))
    assert 50 < caller.ttl <= 60
    root = await bench.vault.lookup_self(bench.root)
    assert (root.num_uses, root.ttl) == (0, 0.0)


@pytest.mark.parametrize("kind", ["service", "batch"])
async def test_a_token_in_its_last_second_is_none_that_does_not_expire(bench: Bench, kind: str) -> None:
    """Of both Vault says 0 seconds."""
    found = list[float]()
    while LAST_SECOND not in found:  # a busy machine can stand still for a second
        token = await bench.token(ttl="2s", type=kind)
        with suppress(VaultDeniedError):
            while True:
                found.append((await bench.vault.lookup_self(token)).ttl)
                await asyncio.sleep(0.05)
        assert 0 not in found


async def test_an_unknown_token_is_told_as_vaults_client_tells_it(bench: Bench) -> None:
    for token in ("s.unknown", ""):
        with pytest.raises(VaultDeniedError) as caught:
            await bench.vault.lookup_self(token)
        assert error_text(caught.value) == (
            "Error making API request.\n\n"
            "URL: GET /v1/auth/token/lookup-self\n"
            "Code: 403. Errors:\n\n* permission denied"
        )


async def test_no_token_is_found_elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = bench.vault.address.split("/")[2].split(":")[0]
    for name, text in ((".vault-token", bench.root), (".netrc", f"machine {host} login a password {bench.root}")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_TOKEN", bench.root)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(VaultDeniedError):
        await Vault(bench.vault.address).lookup_self("")


async def test_asking_about_a_token_costs_it_nothing_and_no_token_is_not_ones_own(bench: Bench) -> None:
    one_use, path = await bench.token(num_uses=1), "stint/queue/a b/../c"
    found = await bench.vault.capabilities(bench.root, one_use, [path, "cubbyhole/x"])
    assert found[path] == {"deny"}
    assert "read" in found["cubbyhole/x"]
    await bench.vault.lookup_self(one_use)
    with pytest.raises(VaultRefusedError):
        await bench.vault.capabilities(bench.root, one_use, [path])
    with pytest.raises(VaultDeniedError):
        await bench.vault.capabilities(bench.root, "", ["stint/queue/a"])


async def test_an_empty_cubbyhole_is_nothing_and_a_path_with_dots_asks_nothing(bench: Bench) -> None:
    assert await bench.vault.read(await bench.token(), "cubbyhole/job") is None
    token = await bench.token(num_uses=1)
    with pytest.raises(VaultRefusedError, match="malformed"):
        await bench.vault.read(token, "cubbyhole/../auth/token/lookup-self")
    await bench.vault.lookup_self(token)


async def test_a_wrapping_token_is_looked_up_unwrapped_and_spent(bench: Bench) -> None:
    wrapping = await bench.wrapped_secret_id()
    await bench.vault.wrap_info(wrapping)
    info = await bench.vault.wrap_info(wrapping)
    assert info.creation_path == f"auth/approle/role/{bench.name}/secret-id"
    assert timedelta(seconds=50) < info.expires_at - datetime.now(UTC) <= timedelta(seconds=61)
    login = await bench.vault.login(bench.role_id, await bench.vault.unwrap_secret_id(wrapping))
    assert login.ttl == 60
    for spend in (bench.vault.wrap_info, bench.vault.unwrap_secret_id):
        with pytest.raises(VaultRefusedError) as caught:
            await spend(wrapping)
        assert wrapping not in caught.value.sentence + error_text(caught.value)


async def test_a_wrapping_token_tells_where_else_it_came_from(bench: Bench) -> None:
    answer = await bench.admin(lambda client: client.sys.wrap({"secret_id": 1}, ttl=60))
    wrapping = answer["wrap_info"]["token"]
    assert (await bench.vault.wrap_info(wrapping)).creation_path == "sys/wrapping/wrap"
    with pytest.raises(VaultRefusedError, match="does not wrap a secret id"):
        await bench.vault.unwrap_secret_id(wrapping)


JUNK = ["", ".", "..", "hvs.x", "a b", "ünïcode", "日本", "a\nb", "\0", "x" * 9000, "eyJhbGciOiJFUzUxMiJ9.e30.AA"]


async def test_junk_in_place_of_a_wrapping_token_is_never_an_outage(bench: Bench) -> None:
    for token in JUNK:
        for spend in (bench.vault.wrap_info, bench.vault.unwrap_secret_id):
            with pytest.raises((VaultRefusedError, VaultDeniedError)):
                await spend(token)


async def test_a_wrong_secret_id_is_refused(bench: Bench) -> None:
    with pytest.raises(VaultRefusedError, match="invalid role or secret ID") as caught:
        await bench.vault.login(bench.role_id, "wrong-secret-id")
    assert "wrong-secret-id" not in caught.value.sentence + error_text(caught.value)


async def test_what_is_sealed_opens_with_the_same_associated_data_only(bench: Bench) -> None:
    sealed = await bench.vault.encrypt(bench.root, bench.name, b"\0plain", associated_data=b"a")
    assert await bench.vault.decrypt(bench.root, bench.name, sealed, associated_data=b"a") == b"\0plain"
    flipped = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]
    for ciphertext, data in ((sealed, b"b"), (sealed, b""), (flipped, b"a"), ("junk", b"a"), ("", b"a")):
        with pytest.raises(VaultRefusedError) as caught:
            await bench.vault.decrypt(bench.root, bench.name, ciphertext, associated_data=data)
        assert "plain" not in caught.value.sentence


async def test_a_payload_of_28_megabytes_of_base64_is_sealed_and_one_over_vaults_limit_refused(bench: Bench) -> None:
    plaintext = os.urandom(21 << 20)
    sealed = await bench.vault.encrypt(bench.root, bench.name, plaintext)
    assert await bench.vault.decrypt(bench.root, bench.name, sealed) == plaintext
    with pytest.raises(VaultRefusedError) as caught:
        await bench.vault.encrypt(bench.root, bench.name, bytes(24 << 20))
    assert vars(caught.value)["code"] == 413


async def test_a_ticket_opens_for_its_own_job_and_queue_and_a_bare_wrapping_token_is_none(bench: Bench) -> None:
    sealed = await seal_ticket(bench.vault, bench.root, TICKET, queue_token="me", job_id="a" * 24)
    assert TICKET.wrap_secret_id not in sealed
    assert await open_ticket(bench.vault, bench.root, sealed, queue_token="me", job_id="a" * 24) == TICKET
    for queue, job_id in (("mi", "a" * 24), ("me", "b" * 24), ("me.a", "a" * 23), ("", "")):
        with pytest.raises(VaultRefusedError):
            await open_ticket(bench.vault, bench.root, sealed, queue_token=queue, job_id=job_id)
    with pytest.raises(VaultRefusedError):
        await open_ticket(bench.vault, bench.root, "s.bare", queue_token="me", job_id="a" * 24)
    sealed = await bench.vault.encrypt(bench.root, BUS_KEY, b'{"wrap_secret_id":7}', associated_data=b"stint1.me.a")
    with pytest.raises(UndecodableError):
        await open_ticket(bench.vault, bench.root, sealed, queue_token="me", job_id="a")


async def test_an_error_keeps_nothing_of_the_request(bench: Bench) -> None:
    with pytest.raises(VaultNotFoundError) as caught:
        await bench.admin(lambda client: client.write_data("nowhere/at/all", data={"password": "hush"}))
    error: BaseException | None = caught.value
    assert isinstance(error, VaultError)
    assert error.__context__ is None
    assert all(secret not in repr(vars(error)) + str(error) for secret in ("hush", bench.root))


NAMES = [
    *("a", "a/", "a//", "/a", " a", "a ", "a,b", "a/b", "a//b", "a/../b", "./a", ".", "..", "", " ", "/", "a\u00a0"),
    *("a\u3000", "a\u200b", "\u2028", "+", "+x", "a/+", "a/+/b", "a+b", "c++", "*", "a*", "a*b", "{{x}}"),
    *("{{identity.entity.id}}", "${x}", "$sys", 'q"u', "b\\s", "\u00fc", "e\u0301", "\u00e9", "a%2fb", "a?b", "a#b"),
    *("=", "=me", "a=b", "capabilities", "release/a", "a" * 1000, "\u4e2d\u6587", "\U0001f680"),
]


async def token_for(bench: Bench, path: str) -> str:
    """A token that may read this path and no other."""
    policy, name = f'path {json.dumps(path, ensure_ascii=False)} {{ capabilities = ["read"] }}', secrets.token_hex(4)
    await bench.admin(lambda client: client.sys.create_or_update_policy(name, policy))
    answer = await bench.admin(lambda client: client.auth.token.create(policies=[name], no_default_policy=True))
    return str(answer["auth"]["client_token"])


async def readable(bench: Bench, token: str) -> list[str]:
    paths = {name: queue_path(name) for name in NAMES}
    found = await bench.vault.capabilities(bench.root, token, [*paths.values()])
    return [name for name, path in paths.items() if "read" in found[path]]


async def test_a_policy_on_a_queue_means_that_queue_and_no_other(bench: Bench) -> None:
    tokens = await asyncio.gather(*(token_for(bench, queue_path(name)) for name in NAMES))
    found = await asyncio.gather(*(readable(bench, token) for token in tokens))
    assert dict(zip(NAMES, found, strict=True)) == {name: [name] for name in NAMES}


async def test_one_policy_can_mean_all_queues_or_the_beginning_of_names_that_are_not_encoded(bench: Bench) -> None:
    assert await readable(bench, await token_for(bench, "stint/queue/*")) == NAMES
    assert await readable(bench, await token_for(bench, "stint/release/*")) == []
    assert await readable(bench, bench.root) == []  # root is a capability of its own
    found = await bench.vault.capabilities(bench.root, bench.root, [RELEASE.path("a ")])
    assert found == {RELEASE.path("a "): {"root"}}
    begun = await readable(bench, await token_for(bench, "stint/queue/a*"))
    assert begun == [name for name in NAMES if name.startswith("a") and queue_path(name) == f"stint/queue/{name}"]


class WatchedVault(Vault):
    """The real one; counts logins and what calls encrypt, and can shorten what logins say about their life."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.ttl: float | None = None
        self.attempts = 0
        self.logins: list[Login] = []
        self.sizes: list[int] = []
        self.logging_in, self.encrypting = asyncio.Event(), asyncio.Event()

    async def login(self, role_id: str, secret_id: str) -> Login:
        self.attempts += 1
        self.logging_in.set()
        login = await super().login(role_id, secret_id)
        self.logins.append(login)
        return login if self.ttl is None else Login(login.token, self.ttl)

    async def encrypt_all(self, token: str, key: str, texts: Sequence[tuple[bytes, bytes]]) -> Sequence[str]:
        self.sizes.append(len(texts))
        self.encrypting.set()
        return await super().encrypt_all(token, key, texts)


@pytest.fixture
def vault(openbao: OpenBao) -> WatchedVault:
    return WatchedVault(openbao.address)


@pytest.fixture
async def session(bench: Bench, vault: WatchedVault) -> AppRoleSession:
    await bench.admin(lambda c: c.auth.approle.create_or_update_approle(bench.name, token_num_uses=0, token_ttl=60))
    answer = await bench.admin(lambda client: client.auth.approle.generate_secret_id(bench.name))
    return AppRoleSession(vault, bench.role_id, answer["data"]["secret_id"])


async def test_many_callers_share_one_login(vault: WatchedVault, session: AppRoleSession) -> None:
    tokens = await asyncio.gather(*(session.token() for _ in range(20)))
    assert len(set(tokens)) == len(vault.logins) == 1
    await session.close()
    await session.close()
    with pytest.raises(VaultDeniedError):
        await vault.lookup_self(tokens[0])


async def test_many_callers_share_one_failure_and_the_next_one_tries_again(bench: Bench, vault: WatchedVault) -> None:
    """With a Vault that hangs, the twentieth would hear of it after twenty time-outs."""
    session = AppRoleSession(vault, bench.role_id, "no-such-secret")
    for attempts in (1, 2):
        found = await asyncio.gather(*(session.token() for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in found} == {VaultRefusedError}
        assert len({id(error) for error in found}) == 20, "each has its own: an error holds its caller's frames"
        assert vault.attempts == attempts


async def test_a_caller_that_is_cancelled_leaves_the_login_to_the_next_one(
    vault: WatchedVault, session: AppRoleSession
) -> None:
    first, second = asyncio.create_task(session.token()), asyncio.create_task(session.token())
    await vault.logging_in.wait()
    first.cancel()
    assert await second
    assert vault.attempts == 2


async def test_a_token_near_its_end_is_replaced(vault: WatchedVault, session: AppRoleSession) -> None:
    vault.ttl = 1e-9
    assert await session.token() != await session.token()


async def test_a_lost_token_is_replaced_once_for_all_and_a_lacking_permission_replaces_none(
    bench: Bench, vault: WatchedVault, session: AppRoleSession
) -> None:
    await vault.revoke_self(await session.token())
    callers = await asyncio.gather(*(session.call(vault.lookup_self) for _ in range(10)))
    assert {caller.display_name for caller in callers} == {"approle"}
    assert len(vault.logins) == 2
    with pytest.raises(VaultDeniedError):
        await session.call(lambda token: vault.encrypt(token, bench.name, b"x"))
    assert len(vault.logins) == 2


async def test_what_is_asked_for_during_a_call_is_encrypted_by_the_next_one(
    openbao: OpenBao, vault: WatchedVault
) -> None:
    settings = await set_up(openbao)
    session = AppRoleSession(vault, settings["STINT_API_ROLE_ID"], settings["STINT_API_SECRET_ID"])
    encryptor = Encryptor(session, ROLE)
    texts = [f"text {number}".encode() for number in range(10)] + [bytes(SMALL + 1)]
    first, *others = (encryptor.encrypt(text, associated_data=text[:6]) for text in texts)
    encrypting = asyncio.create_task(first)
    await vault.encrypting.wait()
    sealed = [*await asyncio.gather(*others), await encrypting]
    assert sorted(vault.sizes) == [1, 1, 9]
    texts.append(texts.pop(0))
    for one, text in zip(sealed, texts, strict=True):
        assert await vault.decrypt(openbao.root_token, ROLE, one, associated_data=text[:6]) == text
