"""How NATS is reached: TLS that is never given up, refusals that are said, and keys."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import nkeys
import pytest
from structlog.testing import capture_logs

from stint.cli.doctor.servers import look_at_nats
from stint.core.errors import BrokerClosedError, ConfigError
from stint.jetstream import Access, Broker
from stint.jetstream.wire import connection
from stint.natsauth.callout.jwt import signed
from stint.natsauth.config import rendered
from tests.support.brokers import started
from tests.support.certificates import authority, certificate, openssl
from tests.support.ports import free_port, free_ports
from tests.support.relay import Relay
from tests.support.servers import NatsProcess, babble, running
from tests.support.stack import finished
from tests.support.waiting import until_true

PASSWORD = "sEcReT-of-nats"


@pytest.fixture(autouse=True)
def _attempts_follow_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_WAIT", 0.1)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as said:
        yield said


@asynccontextmanager
async def server(folder: Path, settings: str) -> AsyncIterator[NatsProcess]:
    async with running(nats := NatsProcess(folder / "nats", settings=settings)):
        yield nats


def tls(certificates: Path, *options: str) -> str:
    files = {"cert_file": "server-cert.pem", "key_file": "server-key.pem", "ca_file": "ca.pem"}
    lines = [f'{name}: "{certificates / file}"' for name, file in files.items()]
    return "tls {\n" + "\n".join([*lines, *options]) + "\n}"


def users(**passwords: str) -> str:
    entries = (f'{{user: "{user}", password: "{password}"}}' for user, password in passwords.items())
    return f"authorization {{ users: [{', '.join(entries)}] }}"


def login(nats: NatsProcess) -> str:
    """The server's URL with the password."""
    return f"nats://me:{PASSWORD}@127.0.0.1:{nats.port}"


def _errors(logs: list[Any], words: str) -> list[str]:
    return [str(line["error"]) for line in logs if words in str(line.get("error"))]


async def said(logs: list[Any], words: str, times: int = 1) -> str:
    """Return once the log has this in so many lines."""
    await until_true(lambda: len(_errors(logs, words)) >= times)
    return _errors(logs, words)[-1]


def trusting(nats: NatsProcess, folder: Path, scheme: str = "tls") -> AbstractAsyncContextManager[Broker]:
    """A connection to this server, if its certificate is of the authority in this folder."""
    return started(Access(url=f"{scheme}://127.0.0.1:{nats.port}", cacert=str(folder / "ca.pem")))


class Eavesdropper(Relay):
    seen = b""

    async def sent(self, data: bytes) -> bytes:
        self.seen += data
        return data


@pytest.mark.parametrize("form", ["tls", "certificate authority"])
async def test_nothing_is_sent_without_tls(tmp_path: Path, certificates: Path, logs: list[Any], form: str) -> None:
    async with server(tmp_path, users(me=PASSWORD)) as nats, (relay := Eavesdropper(nats.port)).listening() as port:
        url = f"{'tls' if form == 'tls' else 'nats'}://me:{PASSWORD}@127.0.0.1:{port}"
        cacert = "" if form == "tls" else str(certificates / "ca.pem")
        async with started(Access(url=url, cacert=cacert)) as broker:
            await said(logs, "TLS is asked for, and the server offers none.")
            assert not broker.connected.is_set()
        assert relay.seen == b""
        async with started(url.replace("tls:", "nats:")) as broker:
            await broker.wait_connected()
        assert PASSWORD.encode() in relay.seen, "the relay would have seen it"


async def test_tls_is_required_of_all_servers_if_of_one(tmp_path: Path, logs: list[Any]) -> None:
    async with server(tmp_path, "") as nats, started(f"tls://127.0.0.1:{free_port()},{nats.url}") as broker:
        await said(logs, "TLS is asked for")
        assert not broker.connected.is_set()


@pytest.mark.parametrize("options", [(), ("verify: true",)], ids=["server", "both"])
async def test_certificates_open_a_server(tmp_path: Path, certificates: Path, options: tuple[str, ...]) -> None:
    async with server(tmp_path, tls(certificates, *options)) as nats:
        access = Access(
            url=f"tls://127.0.0.1:{nats.port}",
            cacert=str(certificates / "ca.pem"),
            cert=str(certificates / "cert.pem"),
            key=str(certificates / "key.pem"),
        )
        async with started(access) as broker, asyncio.timeout(30):
            await broker.wait_connected()
            assert (await broker.api("INFO"))["type"].endswith("account_info_response")
        assert not broker.closed.is_set(), "to close it is no failure"


async def test_tls_is_taken_where_the_server_leaves_it_to_the_client(tmp_path: Path, certificates: Path) -> None:
    settings = f"{tls(certificates)}\nallow_non_tls: true\n{users(me=PASSWORD)}"
    async with server(tmp_path, settings) as nats, (relay := Eavesdropper(nats.port)).listening() as port:
        url = f"tls://me:{PASSWORD}@127.0.0.1:{port}"
        async with started(Access(url=url, cacert=str(certificates / "ca.pem"))) as broker, asyncio.timeout(30):
            await broker.wait_connected()
    assert relay.seen
    assert b"CONNECT" not in relay.seen


async def test_tls_is_kept_over_a_restart_without_it(tmp_path: Path, certificates: Path, logs: list[Any]) -> None:
    async with server(tmp_path, tls(certificates)) as nats, trusting(nats, certificates) as broker:
        await broker.wait_connected()
        nats.settings = ""
        await nats.restart()
        await said(logs, "TLS is asked for")
        assert not broker.connected.is_set()


async def test_a_certificate_of_somebody_else_or_for_another_address_is_said(
    tmp_path: Path, certificates: Path, logs: list[Any]
) -> None:
    async with server(tmp_path, tls(certificates)) as nats:
        async with trusting(nats, authority(tmp_path / "other")) as broker:
            await said(logs, "The server's certificate is not accepted: ")
            assert not broker.connected.is_set()
        async with (
            Relay(nats.port).listening("127.0.0.2") as port,
            started(Access(url=f"tls://127.0.0.2:{port}", cacert=str(certificates / "ca.pem"))),
        ):
            assert (await said(logs, "certificate is not valid")).endswith("for '127.0.0.2'.")


async def test_a_server_that_another_one_names_is_verified_by_its_own_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = authority(tmp_path / "ca")
    routes = [*islice(free_ports(), 2)]

    def server_at(host: str, port: int) -> NatsProcess:
        """A server of a cluster, whose certificate is for this address alone."""
        certificate(folder, f"{host}-", f"subjectAltName = IP:{host}\nextendedKeyUsage = serverAuth\n")
        cluster = {"name": "tests", "listen": f"127.0.0.1:{port}", "routes": [f"nats://127.0.0.1:{p}" for p in routes]}
        files = {"cert_file": str(folder / f"{host}-cert.pem"), "key_file": str(folder / f"{host}-key.pem")}
        settings = rendered({"server_name": host, "cluster": cluster, "tls": files})
        return NatsProcess(tmp_path / host, settings=settings)

    first, other = server_at("127.0.0.2", routes[0]), server_at("127.0.0.1", routes[1])
    async with (
        running(first),
        running(other),
        (relay := Relay(first.port)).listening("127.0.0.2") as port,
        started(Access(url=f"tls://127.0.0.2:{port}", cacert=str(folder / "ca.pem"))) as broker,
    ):
        await until_true(lambda: other.port in {url.port for url in broker.client.discovered_servers})
        relay.refusing = True
        relay.end()
        await until_true(lambda: (url := broker.client.connected_url) and url.port == other.port)
    assert "eof_received" not in caplog.text


def test_what_asyncio_says_of_a_connection_is_left_out_only_where_it_means_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert Access(url="tls://127.0.0.1:4222").options()
    told = logging.getLogger("asyncio")
    told.warning("returning true from eof_received() has no effect when using ssl")
    told.error("Fatal error: protocol.eof_received() call failed.")
    assert caplog.messages == ["Fatal error: protocol.eof_received() call failed."]


async def test_a_missing_client_certificate_is_said(tmp_path: Path, certificates: Path, logs: list[Any]) -> None:
    settings = tls(certificates, "verify: true")
    async with server(tmp_path, settings) as nats, trusting(nats, certificates, "nats") as broker:
        await said(logs, "TLS failed: ")
        assert not broker.connected.is_set()


GOOD = Access(url="tls://127.0.0.1")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"url": "ws://a,nats://b"}, "mixed"),
        ({"url": "http://a"}, "NATS_URL"),
        ({"url": "nats://a,"}, "NATS_URL"),
        ({"cacert": "/no"}, "STINT_NATS_CACERT"),
        ({"cacert": "/n\0o"}, "STINT_NATS_CACERT"),
        ({"cert": "/no"}, "STINT_NATS_CERT"),
        ({"cert": "/n\0o"}, "STINT_NATS_CERT"),
        ({"key": "/no"}, "STINT_NATS_CERT"),
        ({"creds": "no JWT"}, "STINT_NATS_CREDS"),
        ({"nkey": "SUNO"}, "STINT_NATS_NKEY"),
    ],
)
def test_wrong_settings_are_one_sentence(change: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Broker(replace(GOOD, **change))


def test_an_encrypted_key_is_refused_and_not_asked_about(certificates: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    openssl(
        tmp_path, "rsa", "-aes256", "-passout", "pass:secret", "-in", str(certificates / "key.pem"), "-out", str(key)
    )
    with pytest.raises(ConfigError, match="STINT_NATS_KEY"):
        Broker(replace(GOOD, cert=str(certificates / "cert.pem"), key=str(key)))


async def test_a_wrong_password_is_said_and_again_when_the_reason_changes(tmp_path: Path, logs: list[Any]) -> None:
    async with server(tmp_path, users(me="other")) as nats, started(login(nats)) as broker:
        reason = await said(logs, "NATS refuses the user, password, token, key or certificate: ")
        assert "Authorization Violation" in reason
        await nats.kill()
        await said(logs, "Connection refused")
        nats.settings = users(me=PASSWORD)
        await nats.start()
        await broker.wait_connected()
        assert len(_errors(logs, "refuses")) == 1, "said once"
        nats.settings = users(me="other")
        await nats.restart()
        await said(logs, "NATS refuses", times=2)
    assert PASSWORD not in str(logs)


async def test_a_missing_permission_is_said(tmp_path: Path, logs: list[Any]) -> None:
    settings = 'authorization { users: [{user: me, password: p, permissions: {publish: {deny: "JOBS"}}}] }'
    async with server(tmp_path, settings) as nats, started(f"nats://me:p@127.0.0.1:{nats.port}") as broker:
        await broker.wait_connected()
        await broker.send("JOBS")
        reason = await said(logs, "NATS does not permit this to the service's user: ")
        assert 'publish to "jobs"' in reason
        assert broker.connected.is_set()
        assert not broker.closed.is_set()


async def test_a_password_that_is_changed_under_a_connection_ends_the_work(tmp_path: Path) -> None:
    async with server(tmp_path, users(me=PASSWORD)) as nats, started(login(nats)) as broker:
        await broker.wait_connected()
        nats.settings = users(me="changed")
        nats.reload()
        with pytest.raises(BrokerClosedError, match="closed for good: NATS refuses the user, password"):
            async with asyncio.timeout(30):
                await broker.while_open(asyncio.Event().wait())
        assert not broker.connected.is_set()
        with pytest.raises(BrokerClosedError):
            broker.check_open()


@contextmanager
def silent(port: int) -> Iterator[str]:
    """An address at which nobody answers and nobody refuses, as that of a lost machine: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - it takes no keyword
            waiting.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


async def test_a_name_is_reached_by_the_address_that_answers(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first and again, with a lost machine's address before it; `stint doctor` finds it, too."""
    with silent(nats_process.port) as dead:
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, nats_process.port)) for address in (dead, "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
        url = f"nats://nats.invalid:{nats_process.port}"
        async with asyncio.timeout(30), started(url) as broker:
            await broker.wait_connected()
            await nats_process.kill()
            await until_true(lambda: not broker.connected.is_set())
            monkeypatch.undo()
            await nats_process.start()
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
            await broker.wait_connected()
        (finding,) = await look_at_nats(url)
        assert finding.verdict == "ok"


async def test_a_first_connect_or_a_reconnect_that_raises_is_not_waited_for(nats_process: NatsProcess) -> None:
    async with (
        await asyncio.start_server(babble, "127.0.0.1", 0) as other,
        started(f"nats://127.0.0.1:{other.sockets[0].getsockname()[1]}") as broker,
    ):
        with pytest.raises(BrokerClosedError, match="closed for good: ValueError"):
            async with asyncio.timeout(30):
                await broker.while_open(broker.wait_connected())
    async with started(nats_process.url) as broker:
        await broker.wait_connected()
        await nats_process.kill()
        async with await asyncio.start_server(babble, "127.0.0.1", nats_process.port):
            with pytest.raises(BrokerClosedError, match="closed for good: ValueError"):
                async with asyncio.timeout(30):
                    await broker.while_open(asyncio.Event().wait())


async def test_a_rebuild_by_a_user_who_may_not_ends_with_a_sentence(tmp_path: Path) -> None:
    user = f'{{user: "me", password: "{PASSWORD}", permissions: {{publish: "other"}}}}'
    async with server(tmp_path, f"authorization {{ users: [{user}] }}") as nats:
        rebuild = await finished(sys.executable, "-m", "stint_projector.rebuild", env={"NATS_URL": login(nats)})
    assert (rebuild.code, rebuild.err.splitlines()[-1][:45]) == (2, "stint: NATS does not permit this to the user:")
    assert "Traceback" not in rebuild.err


UNLIMITED = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1) | {"wildcards": True}
STREAMS = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def pair(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def public(keys: nkeys.KeyPair) -> str:
    return str(keys.public_key.decode())


def seed(keys: nkeys.KeyPair) -> str:
    return str(keys.seed.decode())


def token(signer: nkeys.KeyPair, subject: nkeys.KeyPair, name: str, claims: Mapping[str, Any]) -> str:
    body = {"sub": public(subject), "name": name, "nats": {"version": 2, **claims}}
    return signed(body, bytes(signer.seed))


async def connects(access: Access) -> bool:
    """Whether it does, or hears that it may not."""
    with capture_logs() as logs:
        async with started(access) as broker:
            await until_true(lambda: broker.connected.is_set() or _errors(logs, "NATS refuses"))
            return broker.connected.is_set() and "error" not in await broker.api("INFO")


async def test_a_credentials_file_opens_nats(tmp_path: Path) -> None:
    operator = pair(nkeys.PREFIX_BYTE_OPERATOR)
    account, system = pair(nkeys.PREFIX_BYTE_ACCOUNT), pair(nkeys.PREFIX_BYTE_ACCOUNT)
    user, another = pair(nkeys.PREFIX_BYTE_USER), pair(nkeys.PREFIX_BYTE_USER)
    root = token(operator, operator, "operator", {"type": "operator", "system_account": public(system)})
    accounts = {
        public(account): token(operator, account, "jobs", {"type": "account", "limits": UNLIMITED | STREAMS}),
        public(system): token(operator, system, "SYS", {"type": "account", "limits": UNLIMITED}),
    }
    card = token(account, user, "runner", {"type": "user", "subs": -1, "data": -1, "payload": -1})
    preload = ", ".join(f"{name}: {value}" for name, value in accounts.items())
    settings = (
        f"operator: {root}\nresolver: MEMORY\nresolver_preload: {{ {preload} }}\nsystem_account: {public(system)}"
    )
    async with server(tmp_path, settings) as nats:
        assert await connects(Access(url=nats.url, creds=credentials(card, user)))
        assert not await connects(Access(url=nats.url, creds=credentials(card, another)))


def credentials(card: str, user: nkeys.KeyPair) -> str:
    """A credentials file as `nsc` writes it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{card}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed(user)}\n------END USER NKEY SEED------\n"
    )
