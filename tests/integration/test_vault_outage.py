"""What becomes of a call when the server is gone, stuck, or no Vault at all. The servers here speak HTTP by hand."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import ReferenceType, ref

import pytest

from stint.core.errors import (
    VaultDeniedError,
    VaultError,
    VaultNotFoundError,
    VaultRefusedError,
    VaultUnavailableError,
)
from stint.process.background import cancel
from stint.vault import SecretData, Vault, client, connections, error_text
from tests.support.ports import free_port

TOKEN = "s.secret-token"
CALLER = '{"data": {"display_name": "someone", "num_uses": 0, "ttl": 60}}'
HANG_UP = "hang up"


@dataclass
class Script:
    """A server that gives each request the next of these answers, and the last one for ever; "" means none.

    At `HANG_UP` it closes the connection.
    """

    answers: Sequence[str]
    address: str = ""
    requests: list[str] = field(default_factory=list)
    connections: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head.decode())
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                if answer == HANG_UP:
                    break
                writer.write(answer.encode())
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass  # the client has hung up
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*answers: str) -> AsyncIterator[Script]:
    script = Script(answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield script
        for connection in script.connections:  # the client keeps them open; the server would wait for them
            connection.close()


def answer(status: int, body: str = "", *headers: str) -> str:
    kind = "application/json" if body.startswith("{") else "text/html"
    lines = (f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", f"Content-Type: {kind}", *headers, "", body)
    return "\r\n".join(lines)


async def test_a_server_that_is_not_there_is_unavailable_at_once() -> None:
    vault = Vault(f"http://127.0.0.1:{free_port()}")
    async with asyncio.timeout(2):
        with pytest.raises(VaultUnavailableError, match="not reachable") as caught:
            await vault.lookup_self(TOKEN)
        assert not await vault.health()
    assert TOKEN not in caught.value.sentence + error_text(caught.value)
    assert caught.value.__context__ is None


class Body(dict[str, str]):
    """Unlike a plain dict it can be referred to weakly."""


async def body_of_a_call_that_fails(address: str) -> ReferenceType[Body]:
    body = Body(secret="x")
    try:
        await Vault(address, timeout=0.2).call(TOKEN, lambda client: client.adapter.post("/v1/kv/x", json=body))
    except VaultUnavailableError:
        return ref(body)
    raise AssertionError("the call did not fail")


@pytest.mark.usefixtures("no_garbage_collector")
async def test_what_a_call_sent_in_vain_is_freed_at_once() -> None:
    async with scripted(HANG_UP) as hanging_up, scripted("") as silent:
        for address in (f"http://127.0.0.1:{free_port()}", hanging_up.address, silent.address):
            body = await body_of_a_call_that_fails(address)
            assert body() is None, address


async def test_a_server_that_never_answers_or_not_to_the_end_is_unavailable_after_the_time_out() -> None:
    async with scripted("") as script, asyncio.timeout(5):
        with pytest.raises(VaultUnavailableError, match="SocketTimeoutError"):
            await Vault(script.address, timeout=0.2).lookup_self(TOKEN)
    async with scripted("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{") as script:
        with pytest.raises(VaultUnavailableError):
            await Vault(script.address, timeout=0.2).lookup_self(TOKEN)


async def test_whoever_asks_for_its_health_does_not_wait_for_all_of_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HEALTH_WITHIN", 0.1)
    async with scripted("") as script, asyncio.timeout(5):
        assert not await Vault(script.address).health()


@pytest.mark.soak
async def test_a_hundred_calls_that_hang_end_and_hold_up_nothing_else() -> None:
    async with scripted("") as script, scripted(answer(200, CALLER)) as another:
        async with Vault(script.address, timeout=60, connections=32) as vault:
            calls = [asyncio.create_task(vault.lookup_self(TOKEN)) for _ in range(100)]
            await asyncio.sleep(0)  # they begin
            assert (await Vault(another.address).lookup_self(TOKEN)).display_name == "someone"
            assert not any(call.done() for call in calls)
            await cancel(*calls)
        async with Vault(script.address, timeout=3, connections=32) as vault:
            async with asyncio.timeout(30):
                ends = await asyncio.gather(*(vault.lookup_self(TOKEN) for _ in range(100)), return_exceptions=True)
            assert {type(end) for end in ends} == {VaultUnavailableError}
            script.answers = [answer(200, CALLER)]
            assert (await vault.lookup_self(TOKEN)).display_name == "someone"


async def test_connections_are_kept_in_a_block_and_closed_behind_it() -> None:
    async with scripted(answer(200, CALLER)) as script:
        async with Vault(script.address) as vault:
            for _ in range(3):
                await vault.lookup_self(TOKEN)
        assert len(script.connections) == 1
        await script.connections[0].wait_closed()
        for _ in range(2):
            await vault.lookup_self(TOKEN)
        assert len(script.connections) == 3


REPEATABLE: dict[str, Callable[[Vault], Awaitable[object]]] = {
    "encrypt": lambda vault: vault.encrypt(TOKEN, "key", b""),
    "decrypt": lambda vault: vault.decrypt(TOKEN, "key", ""),
    "wrap_info": lambda vault: vault.wrap_info(TOKEN),
    "capabilities": lambda vault: vault.capabilities(TOKEN, TOKEN, ["a"]),
    "revoke_self": lambda vault: vault.revoke_self(TOKEN),
}
ONCE: dict[str, Callable[[Vault], Awaitable[object]]] = {
    "lookup_self": lambda vault: vault.lookup_self(TOKEN),
    "unwrap": lambda vault: vault.unwrap_secret_id(TOKEN),
    "login": lambda vault: vault.login("role", "secret"),
    "read": lambda vault: vault.read(TOKEN, "kv/demo"),
}
KEPT = '{"data": {"batch_results": [{"ciphertext": "x"}], "plaintext": "", "creation_time": "2026-01-02T03:04:05Z",\
 "creation_ttl": 1, "creation_path": "x", "a": []}}'


@pytest.mark.parametrize("call", REPEATABLE)
async def test_a_repeatable_call_is_made_again_when_vault_closed_its_connection(call: str) -> None:
    async with scripted(answer(200, KEPT), HANG_UP, answer(200, KEPT)) as script, Vault(script.address) as vault:
        await vault.health()
        await REPEATABLE[call](vault)
    assert len(script.requests) == 3
    assert script.requests[1] == script.requests[2]


async def test_a_repeatable_call_is_made_again_only_once() -> None:
    async with scripted(HANG_UP) as script, Vault(script.address) as vault:
        with pytest.raises(VaultUnavailableError, match="closed the connection") as caught:
            await vault.wrap_info(TOKEN)
    assert len(script.requests) == 2
    assert caught.value.__context__ is None


@pytest.mark.parametrize("call", ONCE)
async def test_a_call_that_spends_something_is_never_made_again(call: str) -> None:
    async with scripted(answer(200, CALLER), HANG_UP, answer(200, CALLER)) as script, Vault(script.address) as vault:
        await vault.health()
        with pytest.raises(VaultUnavailableError, match="closed the connection"):
            await ONCE[call](vault)
    assert len(script.requests) == 2


async def test_an_answer_that_is_too_long_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = len(CALLER) + 2**20
    monkeypatch.setattr(connections, "LONGEST", longest)
    endless = answer(200, CALLER.ljust(longest + 1)).replace(f"Length: {longest + 1}", f"Length: {10 * longest}")
    async with scripted(answer(200, CALLER.ljust(longest)), endless) as server:
        vault = Vault(server.address)
        assert (await vault.lookup_self(TOKEN)).display_name == "someone"
        with pytest.raises(VaultUnavailableError, match=r"answers with more than 1 MiB\.$"):
            await vault.lookup_self(TOKEN)


async def test_a_token_does_not_follow_a_redirect() -> None:
    async with (
        scripted(answer(200, "{}")) as other,
        scripted(answer(307, "", f"Location: {other.address}/x")) as script,
    ):
        with pytest.raises(VaultUnavailableError, match="307"):
            await Vault(script.address).lookup_self(TOKEN)
    assert TOKEN in script.requests[0]
    assert other.requests == []


async def test_no_cookie_is_carried_to_the_next_request() -> None:
    cookie = "Set-Cookie: a=b; Path=/"
    async with scripted(answer(200, CALLER, cookie)) as script, Vault(script.address) as vault:
        await vault.lookup_self(TOKEN)
        await vault.lookup_self("")
    assert TOKEN in script.requests[0]
    assert "Cookie" not in script.requests[1]
    assert TOKEN not in script.requests[1]


@pytest.mark.parametrize(
    ("status", "shape"),
    [
        *((code, VaultRefusedError) for code in (400, 405, 413)),
        (403, VaultDeniedError),
        (404, VaultNotFoundError),
        *((code, VaultUnavailableError) for code in (401, 408, 412, 429, 500, 502, 503, 504)),
    ],
)
async def test_errors_are_told_apart_by_status(status: int, shape: type[VaultError]) -> None:
    """What is wrong with a request Vault says in words: without them it was a proxy. See below."""
    others = ["", "<html>"] if status not in {400, 403, 404, 405} else []
    for body in ('{"errors": ["1 error occurred:\\n\\t* so it is\\n\\n"]}', *others):
        async with scripted(answer(status, body)) as script:
            with pytest.raises(VaultError) as caught:
                await Vault(script.address).lookup_self(TOKEN)
        assert type(caught.value) is shape
        words = ": 1 error occurred: * so it is" if body.startswith("{") else ""
        assert caught.value.sentence.endswith(f"(GET /v1/auth/token/lookup-self, code {status}{words}).")


AWAY = [
    *((200, body) for body in ("<html>", "[]", '"text"', "{", '{"data": ' + "[" * 100_000)),
    *((200, body) for body in ("", "{}", '{"message": "ok"}', '{"data": 5}')),
    *((code, body) for code in (400, 403, 404) for body in ("<html>", "", "{}", '{"message": "no Route matched"}')),
    (400, "404 page not found"),
    *((code, "{}") for code in (405, 422)),
    *((502, body) for body in ('{"errors": 5}', '{"errors": "away"}', '{"errors": [], "warnings": 7}')),
]


@pytest.mark.parametrize(("status", "body"), AWAY, ids=range(len(AWAY)))
async def test_a_server_that_is_no_vault_is_unavailable(status: int, body: str) -> None:
    """Such as a proxy whose Vault is away. It would vouch for any token, and no ticket would be one; a payload's key
    would count as destroyed, a wrapping token as spent, a session's token as ended.
    """
    async with scripted(answer(status, body)) as script:
        vault = Vault(script.address)
        for call in (REPEATABLE | ONCE).values():
            with pytest.raises(VaultUnavailableError, match="does not answer like a Vault"):
                await call(vault)
        assert not await vault.health()


@pytest.mark.parametrize(
    "data", ["null", "{}", '{"display_name": "x", "num_uses": 0}', CALLER[8:-1].replace("60", "[]")]
)
async def test_an_answer_that_names_nobody_is_no_caller(data: str) -> None:
    async with scripted(answer(200, f'{{"data": {data}}}')) as script:
        with pytest.raises(VaultRefusedError, match=r"^Vault's answer about the token is incomplete\.$"):
            await Vault(script.address).lookup_self(TOKEN)


@pytest.mark.parametrize(
    "body", ['{"data": null}', '{"data": {}}', '{"auth": {"client_token": "t", "lease_duration": "x"}}']
)
async def test_an_answer_without_its_data_is_refused_or_empty(body: str) -> None:
    async with scripted(answer(200, body)) as script:
        vault = Vault(script.address)
        for spend in (vault.wrap_info, vault.unwrap_secret_id):
            with pytest.raises(VaultRefusedError):
                await spend(TOKEN)
        with pytest.raises(VaultRefusedError):
            await vault.login("role", "secret")
        assert await vault.capabilities(TOKEN, TOKEN, ["a"]) == {"a": frozenset()}


async def test_warnings_come_with_the_data_and_without() -> None:
    bodies = ('{"errors": []}', '{"data": null, "warnings": ["deleted"]}')
    async with scripted(*(answer(404, body) for body in bodies)) as script:
        vault = Vault(script.address)
        assert await vault.read(TOKEN, "kv/data/demo") is None
        assert await vault.read(TOKEN, "kv/data/demo") == SecretData(None, ("deleted",))
    async with scripted(answer(200, '{"data": {"a": "b"}, "warnings": ["old"]}')) as script:
        assert await Vault(script.address).read(TOKEN, "kv/demo") == SecretData({"a": "b"}, ("old",))


@pytest.mark.parametrize(
    ("body", "healthy"),
    [
        ('{"initialized": true, "sealed": false}', True),
        ('{"initialized": true, "sealed": true}', False),
        ('{"initialized": false, "sealed": false}', False),
        ("{}", False),
    ],
)
async def test_health_wants_an_unsealed_server(body: str, *, healthy: bool) -> None:
    async with scripted(answer(200, body)) as script:
        assert await Vault(script.address).health() is healthy


@asynccontextmanager
async def encrypted(certificates: Path, verify: ssl.VerifyMode = ssl.CERT_NONE) -> AsyncIterator[str]:
    """The address of a healthy server, which wants a client certificate if `verify` says so."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
    context.verify_mode = verify
    script = Script([answer(200, '{"initialized": true, "sealed": false}')])
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_only_the_given_bundle_makes_a_server_trusted(certificates: Path) -> None:
    async with encrypted(certificates) as address:
        async with Vault(address, cacert=str(certificates / "ca.pem")) as vault:
            assert await vault.health()
            assert await vault.health()
        with pytest.raises(VaultUnavailableError, match="CertificateError"):
            await Vault(address).lookup_self("s.token")


async def test_the_certificate_of_vaults_settings_is_shown(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = str(certificates / "ca.pem")
    async with encrypted(certificates, ssl.CERT_REQUIRED) as address:
        assert not await Vault(address, cacert=bundle).health()
        monkeypatch.setattr(connections, "VAULT_CLIENT_CERT", str(certificates / "cert.pem"))
        monkeypatch.setattr(connections, "VAULT_CLIENT_KEY", str(certificates / "key.pem"))
        assert await Vault(address, cacert=bundle).health()
