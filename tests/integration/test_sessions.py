"""Sessions of the page, on real servers, as two API processes see them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError, StintError, UndecodableError, VaultDeniedError
from stint.core.names.streams import SESSIONS_BUCKET, kv_stream
from stint.jetstream import Broker, Bucket
from stint.jetstream.streams.bucket import Entry
from stint.jetstream.wire.protocol import NoAnswerError
from stint.vault import AppRoleSession, Caller, Vault
from stint.vault.setup import service_settings, vault_setup
from stint_api.errors import RefusalError
from stint_api.session import cookie
from stint_api.session.store import LONGEST, TOUCHED, Session, Sessions
from tests.support.brokers import connected
from tests.support.cluster import clustered, connected_to
from tests.support.ports import free_port
from tests.support.relay import Line
from tests.support.servers import OpenBao
from tests.support.waiting import meanwhile, until_true

TOKEN = "s.the-token-of-somebody"
CALLER = Caller(display_name="anna", num_uses=0, ttl=3600, policies=())


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Processes(NamedTuple):
    one: Sessions
    other: Sessions
    bucket: Bucket
    clock: Clock


@pytest.fixture(scope="module")
async def login(openbao: OpenBao) -> tuple[Vault, AppRoleSession]:
    await vault_setup(openbao.address, openbao.root_token)
    settings = await service_settings(openbao.address, openbao.root_token)
    vault = Vault(openbao.address)
    return vault, AppRoleSession(vault, settings["STINT_API_ROLE_ID"], settings["STINT_API_SECRET_ID"])


@asynccontextmanager
async def following(sessions: Sessions) -> AsyncIterator[Sessions]:
    async with meanwhile(sessions.run()):
        await asyncio.wait_for(sessions.following.wait(), 30)
        yield sessions


@pytest.fixture
async def processes(broker: Broker, nats_url: str, login: tuple[Vault, AppRoleSession]) -> AsyncIterator[Processes]:
    clock = Clock()
    async with (
        connected(nats_url) as second,
        following(Sessions(broker, *login, now=clock)) as one,
        following(Sessions(second, *login, now=clock)) as other,
    ):
        yield Processes(one, other, Bucket(broker, SESSIONS_BUCKET), clock)


async def stored(processes: Processes, text: str) -> Entry:
    """What the bucket has of the session with this cookie."""
    found = await processes.bucket.read(cookie.key(text))
    assert found
    return found


async def session_of(sessions: Sessions, text: str) -> Session:
    """The session with this cookie, which is there."""
    found = await sessions.find(text)
    assert found
    return found


async def test_a_session_is_known_to_every_process_and_ends_in_all(processes: Processes) -> None:
    text = await processes.one.begin(TOKEN, CALLER)
    here, there = await session_of(processes.one, text), await session_of(processes.other, text)
    assert (there.token, there.who) == (TOKEN, "anna")
    assert await processes.other.find(text) is there, "it is kept while the bucket is followed"
    await processes.one.end(cookie.key(text))
    assert here.ended.is_set()
    await asyncio.wait_for(there.ended.wait(), 10)
    assert await processes.other.find(text) is None


async def test_the_bucket_has_neither_cookie_nor_token(processes: Processes) -> None:
    text = await processes.one.begin(TOKEN, CALLER)
    (entry,) = [entry async for entry in processes.bucket.entries()]
    assert entry.value
    assert entry.key == cookie.key(text)
    assert text.encode() not in entry.value + entry.key.encode()
    assert TOKEN.encode() not in entry.value


async def test_a_sealed_token_opens_in_its_own_session_only(processes: Processes) -> None:
    mine, theirs = await processes.one.begin("s.mine", CALLER), await processes.one.begin("s.theirs", CALLER)
    stolen = await stored(processes, theirs)
    assert stolen.value
    await processes.bucket.write(cookie.key(mine), stolen.value)
    with pytest.raises(UndecodableError):
        await processes.other.find(mine)


async def test_a_session_ends_with_its_token(processes: Processes) -> None:
    text = await processes.one.begin(TOKEN, replace(CALLER, ttl=3.2))
    session = await session_of(processes.other, text)
    await asyncio.wait_for(session.ended.wait(), 30)
    assert await processes.one.find(text) is None


@pytest.mark.parametrize(
    ("ttl", "lasts"), [(0, LONGEST), (3600, timedelta(hours=1)), (10**9, LONGEST)], ids=["endless", "an hour", "years"]
)
async def test_a_session_lasts_no_longer_than_its_token(processes: Processes, ttl: float, lasts: timedelta) -> None:
    text = await processes.one.begin(TOKEN, replace(CALLER, ttl=ttl))
    session = await session_of(processes.one, text)
    assert abs(session.until - processes.clock() - lasts) < timedelta(minutes=1)
    processes.clock.ahead = lasts
    assert await processes.one.find(text) is None


async def test_use_keeps_a_session_alive_and_is_written_now_and_then(processes: Processes) -> None:
    text = await processes.one.begin(TOKEN, replace(CALLER, ttl=0))
    await processes.one.find(text)
    before = await stored(processes, text)
    processes.clock.ahead = TOUCHED / 2
    await processes.one.find(text)
    assert await stored(processes, text) == before
    processes.clock.ahead = TOUCHED * 2
    assert await processes.one.find(text)
    after = await stored(processes, text)
    assert after.revision > before.revision
    assert await processes.other.find(text)
    anew = await stored(processes, text)
    assert anew.revision > after.revision, "a process that has not seen it knows of no use"


async def test_what_ended_while_nobody_listened_is_ended(
    processes: Processes, nats_url: str, login: tuple[Vault, AppRoleSession]
) -> None:
    text, other = [await processes.one.begin(TOKEN, CALLER) for _ in range(2)]
    async with connected(nats_url) as third:
        late = Sessions(third, *login, now=processes.clock)
        async with following(late):
            session, _ = await session_of(late, text), await session_of(late, other)
        for ended in (text, other):
            await processes.one.end(cookie.key(ended))
        assert await late.find(other) is None, "while it does not listen it asks"
        async with following(late):
            await until_true(session.ended.is_set)


@contextmanager
def reads_of(found: Entry | None) -> Iterator[None]:
    """While a server lags, every read of the bucket finds this."""

    async def lagging(*_: object) -> Entry | None:
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "read", lagging)
        yield


async def test_what_ended_while_nobody_listened_is_not_let_in_by_a_server_that_lags(
    processes: Processes, nats_url: str, login: tuple[Vault, AppRoleSession]
) -> None:
    text = await processes.one.begin(TOKEN, CALLER)
    async with connected(nats_url) as third:
        late = Sessions(third, *login, now=processes.clock)
        async with following(late):
            await session_of(late, text)
        earlier = await stored(processes, text)
        await processes.one.end(cookie.key(text))
        with reads_of(earlier):
            async with following(late):
                with pytest.raises(BrokerUnavailableError):
                    await late.find(text)


async def test_a_server_that_lags_lets_nobody_in(processes: Processes) -> None:
    text = await processes.one.begin(TOKEN, CALLER)
    earlier = await stored(processes, text)
    await processes.one.end(cookie.key(text))
    with reads_of(earlier), pytest.raises(BrokerUnavailableError):
        await processes.other.find(text)
    assert await processes.other.find(text) is None


@pytest.mark.soak
async def test_many_first_requests_at_once_find_the_session(
    tmp_path: Path, login: tuple[Vault, AppRoleSession]
) -> None:
    """In a cluster, where a write is refused while another one is being replicated; as a browser's, at two APIs."""
    async with clustered(tmp_path) as cluster, connected_to(cluster) as first, connected_to(cluster) as second:
        await cluster.whole(first, kv_stream(SESSIONS_BUCKET))
        apis = [Sessions(broker, *login, now=Clock()) for broker in (first, second)]
        async with following(apis[0]), following(apis[1]):
            for _ in range(10):
                text = await apis[0].begin(TOKEN, CALLER)
                assert all(await asyncio.gather(*(api.find(text) for api in apis for _ in range(6))))


async def test_a_session_that_a_server_lacks_is_ended(processes: Processes) -> None:
    text = await processes.one.begin(TOKEN, CALLER)
    session, there = await session_of(processes.one, text), await session_of(processes.other, text)
    with reads_of(None):
        await processes.one.end(cookie.key(text))
    assert session.ended.is_set()
    await asyncio.wait_for(there.ended.wait(), 10)
    assert await processes.one.find(text) is None


async def test_a_session_ends_though_its_token_cannot_be_revoked(processes: Processes, broker: Broker) -> None:
    text = await processes.one.begin(TOKEN, CALLER, revoke=True)
    away = Vault(f"http://127.0.0.1:{free_port()}")
    with capture_logs() as logged:
        await Sessions(broker, away, AppRoleSession(away, "role", "secret"), now=processes.clock).end(cookie.key(text))
    assert [line["event"] for line in logged] == ["the token of a session that ended is not revoked, it will expire"]
    assert TOKEN not in str(logged)
    assert await processes.other.find(text) is None


async def test_a_token_is_revoked_though_nats_does_not_answer_that_its_session_has_ended(
    processes: Processes,
    nats_url: str,
    openbao: OpenBao,
    login: tuple[Vault, AppRoleSession],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second sign-out would find no session, and so no token to revoke."""
    delete, vault, line = Bucket.delete, login[0], Line(int(nats_url.rpartition(":")[2]))
    made = await vault.call(openbao.root_token, lambda client: client.auth.token.create(ttl="10m"))
    token = made["auth"]["client_token"]
    async with line.listening(), connected(line.url) as cut_off:
        sessions = Sessions(cut_off, *login, now=processes.clock)
        text = await sessions.begin(token, CALLER, revoke=True)
        line.break_at(re.compile(rb"PUB \$KV\."), through=True)

        async def unanswered(bucket: Bucket, key: str) -> None:
            cut_off.timeout = 0.5
            await delete(bucket, key)

        monkeypatch.setattr(Bucket, "delete", unanswered)
        with pytest.raises(NoAnswerError):
            await sessions.end(cookie.key(text))
    assert await processes.other.find(text) is None
    with pytest.raises(VaultDeniedError):
        await vault.lookup_self(token)


async def test_what_is_no_session_is_an_error_and_no_session(processes: Processes) -> None:
    text, before = "a" * 43, (await processes.bucket.info())["state"]["last_seq"]
    assert await processes.one.find(text) is None
    await processes.one.end(cookie.key(text))
    assert (await processes.bucket.info())["state"]["last_seq"] == before, "anybody can invent a cookie and its proof"
    for value in (b"", b"{}", json.dumps({"sealed": "x", "who": 1}).encode()):
        await processes.bucket.write(cookie.key(text), value)
        with pytest.raises(StintError):
            await processes.one.find(text)


async def test_without_the_key_it_is_said_what_makes_it(broker: Broker, openbao: OpenBao) -> None:
    vault = Vault(openbao.address)
    sessions = Sessions(broker, vault, AppRoleSession(vault, "no-such-role", "no-such-secret"), now=Clock())
    with pytest.raises(RefusalError, match="stint vault-setup"):
        await sessions.begin(TOKEN, CALLER)
