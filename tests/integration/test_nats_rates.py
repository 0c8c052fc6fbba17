"""`stint nats-auth` closes the connections of publishers that send more than they may, and keeps them out."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nats.aio.msg import Msg

from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import CONNECTIONS, EventAddress, payload_subject
from stint.jetstream import Access
from stint.jetstream.streams.stream import Stream
from stint.natsauth import config
from stint.natsauth.callout.connections import INTERVAL
from stint.natsauth.callout.rates import BURST, WRITTEN
from stint.natsauth.callout.service import TOO_MUCH
from stint.natsauth.requests import CALLS, Role
from stint.natsauth.roles import CALLOUT_ROLE
from tests.support.accounts import Accounts, Guarded, NatsAuth, VaultIdentity, accepted, nats_auth
from tests.support.flood import flood, junk, log_in
from tests.support.servers import OpenBao, running
from tests.support.waiting import PATIENCE, until, until_true

pytestmark = pytest.mark.soak

RATE = 50
"""Messages a second, instead of 1000."""
LOOKS = 6
FLOOD = 60 * RATE * 20
"""Messages a minute."""
FEW = 8
"""Messages between two looks."""
KEPT_OUT = "a publisher sends too much and is kept out"


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    return Accounts(tmp_path_factory.mktemp("keys"), {"mallory": ["own"], "victim": ["other"]}, auth=True)


@pytest.fixture
async def auth(server: Guarded, openbao: OpenBao, tmp_path: Path) -> AsyncIterator[NatsAuth]:
    async with nats_auth(server, openbao, tmp_path / "auth", STINT_NATS_AUTH_RATE=str(RATE)) as auth:
        yield auth


@pytest.fixture
async def looks(server: Guarded) -> AsyncIterator[asyncio.Queue[Msg]]:
    """A message for each look of the service, as it comes."""
    looks = asyncio.Queue[Msg]()
    async with (
        server.connected("operator") as operator,
        operator.subscribe(f"{CALLS}STREAM.INFO.{EVENTS}", cb=looks.put),
    ):
        yield looks


@pytest.mark.parametrize("by", ["key", "token"])
async def test_a_flooder_is_kept_out_others_go_on(server: Guarded, auth: NatsAuth, openbao: OpenBao, by: str) -> None:
    identity = await VaultIdentity.new(openbao, "own")
    mine, again = [Access(url=server.url, user="own", password=await identity.token()) for _ in range(2)]
    if by == "key":
        mine = again = server.access("mallory")
    other = Access(url=server.url, user="own", password=await (await VaultIdentity.new(openbao, "own")).token())
    async with (
        server.connected("api") as api,
        server.connected("victim") as victim,
        flood(mine, "own", per_minute=FLOOD),
    ):
        lost, stream = victim.lost, Stream(api, EVENTS)

        async def comes_back_in_vain() -> bool:
            """Whether nothing of it arrives between two logins. Before, the stream may still store what has arrived."""
            stored, refused = (await stream.info())["state"]["last_seq"], auth.log.count(TOO_MUCH)
            await until_true(lambda: auth.log.count(TOO_MUCH) > refused + 1)
            return bool((await stream.info())["state"]["last_seq"] == stored)

        await until(comes_back_in_vain)
        assert not await accepted(again), "with another token of the same identity"
        assert await accepted(other)
        subject = EventAddress("submitted", queue_token("other"), secrets.token_hex(12)).subject
        assert "error" not in await victim.publish(subject, b"{}")
        assert not lost.is_set()
    assert auth.log.count(KEPT_OUT) == 1
    assert "Traceback" not in auth.log


async def test_two_services_know_what_any_server_gets(accounts: Accounts, openbao: OpenBao, tmp_path: Path) -> None:
    here, there = accounts.cluster(tmp_path)
    rate = {"STINT_NATS_AUTH_RATE": str(RATE)}
    async with (
        running(here),
        running(there),
        nats_auth(here, openbao, tmp_path / "first", **rate) as first,
        nats_auth(there, openbao, tmp_path / "second", **rate) as second,
        flood(there.access("mallory"), "own", per_minute=FLOOD),
    ):
        await until_true(lambda: all(KEPT_OUT in auth.log for auth in (first, second)))
        assert not await accepted(here.access("mallory"))


def large(qname: str) -> bytes:
    """A chunk of a payload of which nothing else comes."""
    return b"PUB %b 1000000\r\n%b\r\n" % (
        payload_subject(queue_token(qname), secrets.token_hex(12), 0).encode(),
        bytes(1_000_000),
    )


async def brief(access: Access, messages: Sequence[bytes], last: bytes) -> None:
    """A connection that is closed as soon as it has sent these; `last` is what it says at the end."""
    url = urlsplit(access.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        log_in(writer, access, await reader.readline())
        writer.write(b"PING\r\n" + b"".join(messages) + b"PING\r\n" + last)
        for _ in range(2):
            await reader.readuntil(b"PONG\r\n")
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("last", [b"", b'CONNECT {"user":"x","pass":"no"}\r\n'], ids=["closed", "as another user"])
async def test_connections_that_are_closed_before_a_look_count(server: Guarded, auth: NatsAuth, last: bytes) -> None:
    async def comes_back() -> None:
        while KEPT_OUT not in auth.log:
            with suppress(OSError, asyncio.IncompleteReadError):
                await brief(server.access("mallory"), [junk("own") for _ in range(RATE)], last)

    await asyncio.wait_for(comes_back(), PATIENCE)
    assert not await accepted(server.access("mallory"))


async def test_who_sends_large_ones_is_kept_out(server: Guarded, auth: NatsAuth, looks: asyncio.Queue[Msg]) -> None:
    assert FEW / INTERVAL < RATE * WRITTEN
    async with asyncio.timeout(PATIENCE):
        while KEPT_OUT not in auth.log:
            with suppress(OSError, asyncio.IncompleteReadError):
                await brief(server.access("mallory"), [large("own") for _ in range(FEW)], b"")
            await looks.get()


async def test_a_fast_reader_is_not_kept_out(server: Guarded, auth: NatsAuth, looks: asyncio.Queue[Msg]) -> None:
    """NATS does not tell reads from writes."""
    async with server.connected("mallory") as own:
        reads = 0
        while looks.qsize() < LOOKS:
            subject = EventAddress("ended", queue_token("own"), f"{reads:024x}").subject
            assert await own.direct_last(EVENTS, subject) is None
            reads += 1
        assert reads > LOOKS * RATE * BURST, "fast enough to be kept out"
    assert KEPT_OUT not in auth.log
    async with flood(server.access("mallory"), "own", per_minute=FLOOD):
        await until_true(lambda: KEPT_OUT in auth.log)


async def test_where_nats_does_not_list_its_connections_publishers_come_in_and_the_log_says_it(
    accounts: Accounts, openbao: OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the configuration is that of an earlier version."""
    monkeypatch.setattr(config, "CALLOUT_OF_SYSTEM", Role(name=CALLOUT_ROLE.name, requests=()))
    assert CONNECTIONS not in accounts.settings
    async with (
        running(server := Guarded(tmp_path / "nats", accounts=accounts)),
        nats_auth(server, openbao, tmp_path / "auth") as auth,
    ):
        await until_true(lambda: "publishers' rates are not limited" in auth.log, seconds=PATIENCE)
        assert await accepted(server.access("mallory"))
        assert "Traceback" not in auth.log
