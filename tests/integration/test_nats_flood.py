"""A publisher that sends more than the disk can take: what others write does not wait behind all of it."""

import secrets
import statistics
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from examples import publish

from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import EventAddress
from stint.jetstream import JetStreamEventLog, JetStreamViews
from stint.jetstream.consuming.feed import BATCH
from stint.jetstream.streams.stream import Stream
from stint.natsauth.command import BUFFERED
from stint.ports import Outcome, ViewPut
from tests.support import events
from tests.support.accounts import Accounts
from tests.support.brokers import loaded
from tests.support.flood import flood
from tests.support.servers import NatsProcess
from tests.support.waiting import PATIENCE, until_true

pytestmark = pytest.mark.soak

PER_MINUTE = 600_000
"""Messages; a fast disk syncs some 200,000."""
APPENDS = 9
OTHER = queue_token("other")
DROPPED = "Dropping messages due to excessive stream ingest rate"


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", {"mallory": ["own"]})


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with accounts.declared(tmp_path / "nats") as server:
        yield server


async def test_what_others_append_waits_for_few_messages_of_a_flood(accounts: Accounts, server: NatsProcess) -> None:
    waited = []
    async with (
        accounts.connected(server.url, "api") as api,
        flood(accounts.access(server.url, "mallory"), "own", per_minute=PER_MINUTE),
    ):
        log, stream = JetStreamEventLog(api), Stream(api, EVENTS)
        await until_true(lambda: DROPPED in server.log)
        for _ in range(APPENDS):
            job_id, before = secrets.token_hex(12), (await stream.info())["state"]["last_seq"]
            fact = events.submitted("other")
            while (outcome := await log.append(OTHER, job_id, fact)) is Outcome.UNKNOWN:
                pass  # the disk, or the processor, is busy with the flood
            assert outcome is Outcome.WON
            job = await loaded(log, job_id)
            waited.append(job.sequence - before)
    assert statistics.median(waited) < 10 * BUFFERED, "less than the server itself lets wait"


async def test_the_views_of_a_pull_are_written_although_few_may_wait(accounts: Accounts, server: NatsProcess) -> None:
    assert BATCH > BUFFERED
    async with accounts.connected(server.url, "projector") as projector:
        views = JetStreamViews(projector)
        puts = [ViewPut(f"{number:024x}", b"{}", 0, timedelta(hours=1)) for number in range(BATCH)]
        assert len(await views.put_all(puts)) == BATCH
    assert DROPPED not in server.log


async def test_the_example_in_python_publishes_again_what_was_dropped(
    accounts: Accounts, server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "REPEATED", 60.0)  # such a flood drops nearly all
    async with (
        accounts.connected(server.url, "mallory") as own,
        flood(accounts.access(server.url, "mallory"), "own", per_minute=PER_MINUTE),
    ):
        await until_true(lambda: DROPPED in server.log)
        stream = own.client.jetstream(timeout=PATIENCE)
        for _ in range(APPENDS):
            subject = EventAddress("submitted", queue_token("own"), secrets.token_hex(12)).subject
            assert (await publish.store(stream, subject, b"{}", EVENTS)).seq
