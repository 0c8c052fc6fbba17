"""How runners find queues with work: hints, who gets them, and looks. Their jobs are not run."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from stint.core.names.ids import queue_token
from stint.core.names.subjects import parse_event_subject
from stint.jetstream import Broker, JetStreamWorkQueues
from stint.jetstream.consuming.delivery import JetStreamDelivery
from stint.ports import Delivery, Hint, Look, Turn
from stint.process.background import cancel
from stint_runner.dispatch import finder
from stint_runner.dispatch.worker import Worker
from tests.support.brokers import happen, work_queues
from tests.support.events import submitted
from tests.support.waiting import until, until_true

HOUR = 3600.0


class HoldingDispatcher:
    """Holds the jobs it gets until they are let go, and acknowledges them then."""

    def __init__(self) -> None:
        self.held: dict[str, asyncio.Event] = {}
        self.got: asyncio.Queue[str] = asyncio.Queue()
        self.ended = 0

    async def process(self, delivery: Delivery, *, pulled_at: float) -> None:
        del pulled_at
        token = parse_event_subject(delivery.subject).token
        self.held[token] = asyncio.Event()
        self.got.put_nowait(token)
        await self.held[token].wait()
        await delivery.ack()
        self.ended += 1

    def drain(self) -> None:
        for held in self.held.values():
            held.set()

    async def resumed(self) -> Sequence[str]:
        return ()

    async def clean_ups_below(self, number: int) -> None:
        del number

    async def cleaned_up(self) -> None:
        pass


class Runner:
    """A worker whose jobs are held."""

    def __init__(self, queues: JetStreamWorkQueues, capacity: int) -> None:
        self.dispatcher = HoldingDispatcher()
        self.worker = Worker(queues, self.dispatcher, capacity=capacity)  # type: ignore[arg-type] # all that it calls

    async def got(self) -> str:
        async with asyncio.timeout(30):
            return await self.dispatcher.got.get()

    def end(self, token: str) -> None:
        self.dispatcher.held[token].set()


@asynccontextmanager
async def runner(broker: Broker, capacity: int = 1, served: str = "") -> AsyncIterator[Runner]:
    """A runner that listens to hints already."""
    made = Runner(await work_queues(broker, served), capacity)
    working = asyncio.create_task(made.worker.run())
    try:
        await until_true(lambda: not made.worker.missing())
        await broker.client.flush()
        yield made
    finally:
        made.worker.drain()
        await asyncio.wait({working}, timeout=30)
        await cancel(working)


async def submit(broker: Broker, *queues: str) -> list[str]:
    """A job in each of these queues; their tokens."""
    tokens = [queue_token(queue) for queue in queues]
    for token in tokens:
        await happen(broker, secrets.token_hex(12), submitted(), token=token)
    return tokens


@pytest.fixture
def _hints_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks around."""

    async def nothing(queues: JetStreamWorkQueues) -> Mapping[str, int]:
        del queues
        return {}

    monkeypatch.setattr(JetStreamWorkQueues, "pending", nothing)


@pytest.fixture
def pulls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queues that are pulled, in order."""
    pull, pulled = JetStreamWorkQueues.pull, []

    async def noting(
        queues: JetStreamWorkQueues, token: str, wait: float, look: Look | None = None
    ) -> JetStreamDelivery | None:
        pulled.append(token)
        return await pull(queues, token, wait, look)

    monkeypatch.setattr(JetStreamWorkQueues, "pull", noting)
    return pulled


async def test_queues_that_others_have_are_pulled_at_the_start_and_then_only_looked_at(
    broker: Broker, pulls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start their jobs may have been given back while nobody listened, which a look does not show."""
    monkeypatch.setattr(finder, "RECONCILE", 0.1)
    monkeypatch.setattr(finder, "LOOK", 0.0)
    others = await work_queues(broker)
    names = [f"busy {number}" for number in range(20)]
    busy = await submit(broker, *names, *names)
    await until(others.pending, lambda found: list(found.values()) == [2] * 20)
    deliveries = [await others.pull(token, 5) for token in busy[:20]]
    assert all(deliveries)
    pulls.clear()
    async with runner(broker) as one:
        (token,) = await submit(broker, "new")
        assert await one.got() == token
        one.end(token)
        await until_true(lambda: set(busy) < set(pulls))
        look, looked = others.look, Counter[str]()

        async def noting(_queues: JetStreamWorkQueues, token: str) -> Look:
            looked[token] += 1
            return await look(token)

        monkeypatch.setattr(JetStreamWorkQueues, "look", noting)
        pulls.clear()
        await until_true(lambda: all(looked[token] > 1 for token in busy))
    assert set(pulls) <= {token}


@pytest.mark.usefixtures("_hints_alone")
async def test_a_runner_that_stays_full_leaves_hints_to_others(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "LEAVE", 0.0)
    consider, considered = finder.Finder._consider, []  # noqa: SLF001 - which runner gets a hint is inside

    async def noting(self: finder.Finder, hint: Hint) -> None:
        considered.append(self)
        await consider(self, hint)

    async with runner(broker) as full:
        await submit(broker, "long")
        await full.got()
        await until_true(lambda: not full.worker._finder._listens.is_set())  # noqa: SLF001 - likewise
        async with runner(broker, capacity=20) as free:
            await broker.client.flush()
            monkeypatch.setattr(finder.Finder, "_consider", noting)
            for number in range(20):
                (token,) = await submit(broker, f"short {number}")
                assert await free.got() == token
            assert set(considered) == {free.worker._finder}  # noqa: SLF001 - likewise


@pytest.mark.usefixtures("_hints_alone")
async def test_a_lone_runner_keeps_hints_it_has_no_slot_for(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "LEAVE", HOUR)
    async with runner(broker) as alone:
        tokens = await submit(broker, "a", "b", "c")
        for token in tokens:
            assert await alone.got() == token
            alone.end(token)


async def test_a_lost_hint_and_a_runner_that_comes_later_cost_no_job(broker: Broker) -> None:
    tokens = await submit(broker, *(f"queue {number}" for number in range(30)))
    async with runner(broker, capacity=4) as late:
        found = set()
        for _ in tokens:
            token = await late.got()
            found.add(token)
            late.end(token)
        assert found == set(tokens)


@pytest.mark.usefixtures("_hints_alone")
async def test_a_queue_that_has_more_goes_on_without_a_hint_and_takes_its_turn(broker: Broker) -> None:
    async with runner(broker) as one:
        first, *_ = await submit(broker, "a", "a", "a")
        assert await one.got() == first
        (other,) = await submit(broker, "b")
        await until_true(lambda: one.worker._backlog)  # noqa: SLF001 - what waits is inside
        one.end(first)
        assert await one.got() == other, "the queue that waits is next"
        one.end(other)
        for _ in range(2):
            assert await one.got() == first
            one.end(first)
        await until_true(lambda: one.dispatcher.ended == 4)
    assert one.worker.busy == 0


@pytest.mark.usefixtures("_hints_alone")
@pytest.mark.parametrize(("served", "lag"), [(False, 1), (True, 2)], ids=["of a queue at rest", "while it is served"])
async def test_a_hint_is_not_lost_to_a_server_that_hears_of_the_job_late(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, served: bool, lag: int
) -> None:
    """As the leader of a consumer in a cluster: to so many looks, and to a pull between them, the queue is empty."""
    look, pull, looks = JetStreamWorkQueues.look, JetStreamWorkQueues.pull, 0

    async def late_look(queues: JetStreamWorkQueues, token: str) -> Look:
        nonlocal looks
        looks += 1
        return Look(Turn.EMPTY) if looks <= lag else await look(queues, token)

    async def late_pull(
        queues: JetStreamWorkQueues, token: str, wait: float, seen: Look | None = None
    ) -> JetStreamDelivery | None:
        return await pull(queues, token, wait, seen) if looks > lag else None

    async with runner(broker, capacity=2) as one:
        if served:
            await submit(broker, "a")
            await one.got()
        monkeypatch.setattr(JetStreamDelivery, "left", property(lambda _: None, lambda *_: None), raising=False)
        monkeypatch.setattr(JetStreamWorkQueues, "look", late_look)
        monkeypatch.setattr(JetStreamWorkQueues, "pull", late_pull)
        (token,) = await submit(broker, "a")
        if served:
            await until_true(lambda: token in one.worker._backlog._added)  # noqa: SLF001 - what waits is inside
            one.end(token)
        assert await one.got() == token
        assert looks == lag + 1
        one.end(token)


@pytest.mark.usefixtures("_hints_alone")
async def test_waiting_hints_are_passed_on_by_who_leaves(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "LEAVE", HOUR)
    others = await work_queues(broker)
    async with runner(broker) as full:
        await submit(broker, "long")
        await full.got()
        (waiting,) = await submit(broker, "waiting")
        await until_true(full.worker._backlog.hinted)  # noqa: SLF001 - what waits is inside
        async with others.hints() as hints:
            await broker.client.flush()
            full.worker._finder._leave()  # noqa: SLF001 - as its timer would
            assert await anext(hints) == Hint(waiting)


@pytest.mark.usefixtures("_hints_alone")
@pytest.mark.parametrize("served", ["net-a,net-b", "net-*"], ids=["names", "pattern"])
async def test_each_pool_hears_all_hints_of_its_queues_and_of_no_others(broker: Broker, served: str) -> None:
    async with (
        runner(broker, capacity=9, served=served) as pool,
        runner(broker, capacity=9, served="deploys") as other,
        runner(broker, capacity=9, served="deploys") as another,
    ):
        for _ in range(5):
            tokens = await submit(broker, "net-a", "deploys", "net-b", "nobodys")
            assert {await pool.got(), await pool.got()} == {tokens[0], tokens[2]}
            one = asyncio.create_task(other.got()), asyncio.create_task(another.got())
            done, rest = await asyncio.wait(one, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [tokens[1]]
            await cancel(*rest)
            for each in (pool, other, another):
                for token, held in each.dispatcher.held.items():
                    if not held.is_set():
                        each.end(token)
        assert all(each.dispatcher.got.empty() for each in (pool, other, another))


@pytest.mark.usefixtures("_hints_alone")
@pytest.mark.parametrize(("pool", "elsewhere"), [("a*", ""), ("", "a*")])
async def test_a_full_runner_passes_hints_on_within_its_pool(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, pool: str, elsewhere: str
) -> None:
    """Others have had the same hint themselves. Runners that are told no queues are a pool, too."""
    monkeypatch.setattr(finder, "LEAVE", HOUR)
    others, outsiders = await work_queues(broker, pool), await work_queues(broker, elsewhere)
    async with runner(broker, served=pool) as full:
        await submit(broker, "a-long")
        await full.got()
        async with others.hints() as hints, outsiders.hints() as outside, asyncio.timeout(30):
            for _ in range(100):  # a quarter of them is passed from one to the other
                await others.hint(queue_token("a"))
            while not (hint := await anext(hints)).passed:
                pass
            await others.hint(queue_token("a-last"))
            heard = [await anext(outside)]
            while heard[-1].token != queue_token("a-last"):
                heard.append(await anext(outside))
    assert hint == Hint(queue_token("a"), passed=1)
    assert not any(found.passed for found in heard)
