"""WORK is connected with EVENTS again: nothing is missing, and the order stays."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, WORK
from stint.core.names.subjects import JS_PREFIX, EventAddress, event_filter, work_subject
from stint.jetstream import Access, Broker, JetStreamEventLog, Sourcing, declare
from stint.jetstream.streams.sourcing import SILENCE, silence
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire import connection as connection_module
from stint.jetstream.wire.protocol import NoAnswerError, check, origin_of, sequence_of
from stint.ports import Outcome
from tests.support import events
from tests.support.accounts import Accounts, Guarded
from tests.support.brokers import connected
from tests.support.servers import NatsProcess
from tests.support.waiting import PATIENCE, meanwhile, until, until_true

pytestmark = pytest.mark.soak

WRITERS = 2
KILLS = 5
ROUNDS = 8
"""Times that WORK is connected again, from one kill to the next."""
AHEAD = 2000
"""Submissions that have not been looked at in WORK: with more than `MOST_WAITING` it is not connected again."""
SOON = 5
"""Seconds."""
MANY = 400_000
"""Events that NATS needs longer to restore than for its first attempt to connect WORK: 200,000 are enough on a machine
that has nothing else to do, 100,000 are not."""
BATCH = 200
"""Half of the messages that NATS lets wait for a stream."""


class Deaf(Broker):
    """To whom NATS says that it failed to connect WORK."""

    async def api(self, subject: str, *args: Any, **options: Any) -> dict[str, Any]:
        answer = await super().api(subject, *args, **options)
        if subject == f"STREAM.INFO.{WORK}":
            for source in answer.get("sources", ()):
                source |= {"active": -1, "error": {}}
        return answer


@asynccontextmanager
async def deaf(access: Access | str, prefix: str = "$JS.API") -> AsyncIterator[Deaf]:
    async with Deaf(access, prefix=prefix) as broker:
        await broker.wait_connected()
        yield broker


async def submit(broker: Broker, token: str = events.TOKEN) -> None:
    """Through any outage."""
    log, job_id, fact = JetStreamEventLog(broker), secrets.token_hex(12), events.submitted()
    outcome = Outcome.UNKNOWN
    while outcome is Outcome.UNKNOWN:
        with suppress(BrokerUnavailableError):
            outcome = await log.append(token, job_id, fact)
    assert outcome is Outcome.WON


class Load:
    """Writers of submissions, and one who takes them from WORK as acks do, except for the last `kept` ones."""

    def __init__(self, broker: Broker, kept: int) -> None:
        self._broker, self._kept = broker, kept
        self._work = Stream(broker, WORK)
        self._written = 0
        self.came: dict[int, int] = {}

    async def write(self) -> None:
        while True:
            await until_true(lambda: self._written - len(self.came) < AHEAD)
            await submit(self._broker)
            self._written += 1

    async def take(self) -> None:
        """Look at all that comes."""
        while True:
            with suppress(BrokerUnavailableError):
                await self.look()
            await asyncio.sleep(0)

    async def look(self) -> None:
        following = max(self.came, default=0) + 1
        while message := await self._work.get({"seq": following, "next_by_subj": work_subject("*")}):
            self.came[sequence_of(message)] = origin_of(message).sequence
            following = sequence_of(message) + 1
            if not following % 500:
                await self._take_until(following)
        await self._take_until(following)

    async def _take_until(self, following: int) -> None:
        if following > self._kept:
            await self._broker.api(f"STREAM.PURGE.{WORK}", {"seq": following - self._kept})

    async def check(self) -> None:
        """All that was submitted has come, and in its order; a submission that comes again does not count."""
        pages = Stream(self._broker, EVENTS).pages(event_filter("submitted"))
        submitted = [sequence_of(message) async for messages in pages for message in messages]

        async def all_came() -> bool:
            await self.look()
            return set(submitted) <= set(self.came.values())

        await until(all_came)
        assert list(dict.fromkeys(origin for _, origin in sorted(self.came.items()))) == submitted


async def connect_again(broker: Deaf, sourcing: Sourcing) -> None:
    """Many times, while submissions come."""
    stream = Stream(broker, WORK)
    for _ in range(ROUNDS):
        before = (await until(stream.info, _can_go_on))["config"]["sources"]
        await sourcing.check()
        assert (await stream.info())["config"]["sources"] != before
        last = (await stream.info())["state"]["last_seq"]
        await until(stream.info, lambda info, last=last: info["state"]["last_seq"] > last)  # type: ignore[misc]


def _can_go_on(work: Mapping[str, Any]) -> bool:
    """Whether it is known how far WORK has come."""
    return "seq" in work["sources"][0] or "opt_start_seq" in work["config"]["sources"][0]


@pytest.mark.parametrize("kept", [1000, 0])
async def test_nothing_is_missing_and_the_order_stays(nats_process: NatsProcess, kept: int) -> None:
    async with connected(nats_process.url) as broker, deaf(nats_process.url) as projector:
        load, sourcing = Load(broker, kept), Sourcing(projector)
        async with meanwhile(load.take(), *(load.write() for _ in range(WRITERS))):
            await connect_again(projector, sourcing)
            for _ in range(KILLS):
                killed = asyncio.create_task(nats_process.restart())
                with suppress(BrokerUnavailableError):
                    await sourcing.check()
                await killed
                await until(partial(projector.connected_within, PATIENCE))
                await sourcing.check()  # which creates WORK if NATS was killed while it wrote the settings
                await connect_again(projector, sourcing)
        await load.check()


async def test_it_is_no_other_setting_and_every_queue_is_found(nats_process: NatsProcess) -> None:
    longest = queue_token("q" * 1000)
    async with connected(nats_process.url) as broker, deaf(nats_process.url) as projector:
        await submit(broker)
        await connect_again_alone(projector)
        await submit(broker, longest)
        await until(lambda: Stream(broker, WORK).last(work_subject(longest)))
        with capture_logs() as said:
            await declare(broker)
        assert said == []


async def connect_again_alone(projector: Deaf) -> None:
    """Once it has had a submission."""
    await until(Stream(projector, WORK).info, _can_go_on)
    await Sourcing(projector).check()


class KillsAtUpdate(Deaf):
    """NATS is killed between the two files that it writes when settings change."""

    server: NatsProcess

    async def api(self, subject: str, *args: Any, **options: Any) -> dict[str, Any]:
        answer = await super().api(subject, *args, **options)
        if subject.startswith("STREAM.UPDATE"):
            await self.server.kill()
            (checksum,) = (self.server.data_dir / "store").rglob(f"{WORK}/meta.sum")
            checksum.write_text("0123456789abcdef")
            await self.server.start()
            raise NoAnswerError
        return answer


async def test_work_is_there_again_after_a_kill_while_its_settings_were_written(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker, KillsAtUpdate(nats_process.url) as projector:
        await submit(broker)
        await submit(broker)
        await until(Stream(broker, WORK).info, lambda info: info["state"]["messages"] == 2)
        projector.server = nats_process
        await projector.wait_connected()
        sourcing = Sourcing(projector)
        with pytest.raises(NoAnswerError):
            await sourcing.check()
        await asyncio.gather(*(client.connected_within(PATIENCE) for client in (projector, broker)))
        assert "error" in await broker.api(f"STREAM.INFO.{WORK}"), "NATS has not restored it"
        projector.__class__ = Broker  # type: ignore[assignment]
        await sourcing.check()
        await submit(broker)
        load = Load(broker, kept=1000)
        await load.check()
        assert len(load.came) == 3, "none came again"


async def test_a_log_that_was_made_anew_and_is_as_long_again_is_read_from_its_begin(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker:
        work, sourcing = Stream(broker, WORK), Sourcing(broker)
        for _ in range(3):
            await submit(broker)
        await until(work.info, lambda info: info["state"]["messages"] == 3)
        await sourcing.check()
        await broker.api(f"STREAM.DELETE.{EVENTS}")
        await declare(broker)
        for _ in range(5):
            await submit(broker)
        await sourcing.check()

        async def came() -> list[int]:
            return [origin_of(message).sequence async for page in work.pages() for message in page]

        assert await until(came, lambda found: len(found) >= 8, seconds=SOON) == [1, 2, 3, 1, 2, 3, 4, 5]
        settings = (await work.info())["config"]["sources"]
        await sourcing.check()
        assert (await work.info())["config"]["sources"] == settings


async def test_a_log_that_was_restored_alone_is_read_from_its_begin(nats_process: NatsProcess) -> None:
    async with connected(nats_process.url) as broker:
        folder = nats_process.data_dir / "store" / "jetstream" / "$G" / "streams" / EVENTS
        backup = nats_process.data_dir / "backup"
        await submit(broker)
        await nats_process.stop()
        shutil.copytree(folder, backup)
        await nats_process.start()
        await until(partial(broker.connected_within, PATIENCE))
        for _ in range(3):
            await submit(broker)
        await until(Stream(broker, WORK).info, lambda info: info["state"]["last_seq"] == 4)
        await broker.api(f"STREAM.PURGE.{WORK}")
        await nats_process.stop()
        shutil.rmtree(folder)
        backup.rename(folder)
        await nats_process.start()
        await until(partial(broker.connected_within, PATIENCE))
        await submit(broker)
        await Sourcing(broker).check()
        await Load(broker, kept=1000).check()


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    return Accounts(tmp_path_factory.mktemp("accounts"))


async def test_the_projectors_account_suffices(server: Guarded) -> None:
    async with server.connected("operator") as operator, deaf(server.access("projector"), JS_PREFIX) as projector:
        await submit(operator)
        await connect_again_alone(projector)
        await submit(operator)
        await Load(operator, kept=1000).check()
        (source,) = (await Stream(operator, WORK).info())["config"]["sources"]
        assert source["opt_start_seq"] == 2


async def test_after_a_restart_with_many_events_a_job_is_in_its_queue_soon(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone, NATS tries again 10 s after an attempt of which it says `stream not found`."""
    monkeypatch.setattr(connection_module, "CONNECT_WAIT", 0.1)
    async with connected(nats_process.url) as broker:
        await submit(broker)
        await fill(broker)
        async with meanwhile(Sourcing(broker).run()):
            quiet = await until(Stream(broker, WORK).info, lambda info: silence(info) < SILENCE)
            await nats_process.restart()
            assert "create source consumer EVENTS: stream not found" in nats_process.log, "the first attempt failed"
            async with connected(nats_process.url) as at_once:
                await submit(at_once)
                wanted = quiet["state"]["last_seq"] + 1
                await until(Stream(at_once, WORK).info, lambda info: info["state"]["last_seq"] == wanted, seconds=SOON)


async def fill(broker: Broker) -> None:
    """Store many events that are no submissions, in atomic batches, which the stream takes only for that."""
    config = (await broker.api(f"STREAM.INFO.{EVENTS}"))["config"]
    check(await broker.api(f"STREAM.UPDATE.{EVENTS}", config | {"allow_atomic": True}))
    for first in range(0, MANY, BATCH):
        for number in range(1, BATCH + 1):
            headers = {"Nats-Batch-Id": f"fill-{first}", "Nats-Batch-Sequence": str(number)}
            subject = EventAddress("started", events.TOKEN, f"{first + number:024x}").subject
            if number < BATCH:
                await broker.client.publish(subject, b"{}", headers=headers)
            else:
                check(await broker.publish(subject, b"{}", {**headers, "Nats-Batch-Commit": "1"}))
