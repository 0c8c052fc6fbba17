"""Faults for the checker to find, planted in a runner. `tests.chaos.projector` has those of projectors."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from stint.core.events import Started
from stint.core.job import Job, State
from stint.core.names.streams import WORK
from stint.core.output.chain import Chunk
from stint.jetstream import Broker, JetStreamEventLog, JetStreamOutput, JetStreamWorkQueues
from stint.jetstream.consuming.delivery import JetStreamDelivery
from stint.ports import Look, Turn
from stint.vault import Vault
from stint_runner.dispatch import finder
from stint_runner.dispatch.dispatcher import Dispatcher
from stint_runner.dispatch.finder import Lead, Tried
from stint_runner.dispatch.worker import Worker
from stint_runner.engine.port import Exit
from stint_runner.lease.lease import Lease, LeaseTimes
from stint_runner.lease.leased_job import LeasedJob
from stint_runner.runner import Runner
from tests.chaos.scripted_engine import ScriptedEngine

PLANTS: Final[dict[str, Callable[[], None]]] = {"no watchdog": lambda: None}
"""What breaks a runner, by its name in the setting."""
UNWATCHED: Final = frozenset({"no fence", "no watchdog"})
"""With these the watchdog is blind: it would see to what the runner does not."""
LATE: Final = 15.0
"""Seconds that a late acknowledgement waits at most for what it is to hit."""


def plant(names: str) -> bool:
    """Break this process in these ways, in this order, names with commas; whether its watchdog is to see."""
    wanted = names.split(",")
    for name in wanted:
        if name in PLANTS:  # others are the projector's
            PLANTS[name]()
    return UNWATCHED.isdisjoint(wanted)


def _plant(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def named(break_it: Callable[[], None]) -> Callable[[], None]:
        PLANTS[name] = break_it
        return break_it

    return named


@_plant("no fence")
def _no_fence() -> None:
    """A lease is never taken for lost."""

    async def keep(self: Lease, after_each: Callable[[], Any], pull_again: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(self.times.heartbeat)
            await self._renew(pull_again)
            await self.look(after_each)

    Lease.keep = keep  # type: ignore[method-assign]
    Lease._lose = lambda *_: None  # type: ignore[assignment, method-assign]  # noqa: SLF001 - what a fault breaks is inside


@_plant("heartbeats believed")
def _heartbeats_believed() -> None:
    """An answered heartbeat is taken for a lease, and the log is not asked."""

    def see(self: LeasedJob, job: Job | None) -> None:
        del self, job

    async def pull_again(self: LeasedJob) -> None:
        del self  # a lost consumer is left for others to make

    LeasedJob.see = see  # type: ignore[method-assign]
    LeasedJob._pull_again = pull_again  # type: ignore[method-assign]  # noqa: SLF001 - what a fault breaks is inside


@_plant("taken at once")
def _taken_at_once() -> None:
    """A job that another has started is taken over, although its consumer is new, and has never delivered it before."""
    make = JetStreamDelivery.__init__

    def expired(self: JetStreamDelivery, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self.after_expiry = True

    JetStreamDelivery.__init__ = expired  # type: ignore[method-assign]


@_plant("no takeover")
def _no_takeover() -> None:
    """T is 0, and the lease of the runner that was lost tells nothing."""
    LeaseTimes.check = lambda self: None  # type: ignore[method-assign] # noqa: ARG005 - a method's
    LeaseTimes.dead = LeaseTimes.told = 0.0  # type: ignore[assignment, method-assign]
    make = Dispatcher.__init__

    def without(self: Dispatcher, runner: Runner) -> None:
        make(self, replace(runner, settings=runner.settings.model_copy(update={"takeover": 0.0})))

    Dispatcher.__init__ = without  # type: ignore[method-assign]


@_plant("eager")
def _eager() -> None:
    """No fault: what is pending is found at once, so that nothing but T lies between a lease and the next."""
    finder.RECONCILE = finder.LOOK = 0.3  # type: ignore[misc]


@_plant("early ack")
def _early_ack() -> None:
    """The queue is let go when the job has started."""
    start = ScriptedEngine.start
    leases: list[Lease] = []
    make = Lease.__init__

    def noted(self: Lease, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        leases.append(self)

    async def start_and_ack(self: ScriptedEngine, container_id: str) -> None:
        await start(self, container_id)
        while leases:
            await leases.pop().delivery.ack()

    Lease.__init__ = noted  # type: ignore[method-assign]
    ScriptedEngine.start = start_and_ack  # type: ignore[method-assign]


@_plant("unchecked ack")
def _unchecked_ack() -> None:
    """Whether the delivery is the queue's last is not asked."""

    async def ack(self: JetStreamDelivery) -> None:
        await self._broker.request(self.ack_subject, Msg.Ack.Ack)
        await self._remover.remove(self.token, self.sequence)

    JetStreamDelivery.ack = ack  # type: ignore[method-assign]


@_plant("late ack")
def _late_ack() -> None:
    """No fault: the second job's acknowledgement comes when its number is that of another delivery."""
    ack = JetStreamDelivery.ack

    async def ack_late(self: JetStreamDelivery) -> None:
        if self.sequence == 2:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LATE):
                    await _delivered_again(self)
        await ack(self)

    JetStreamDelivery.ack = ack_late  # type: ignore[method-assign]


async def _delivered_again(delivery: JetStreamDelivery) -> None:
    """Until another consumer of the same queue has given out the same number."""
    while True:
        found = await delivery._broker.api(f"CONSUMER.INFO.{WORK}.{delivery._consumer}")  # noqa: SLF001 - likewise
        another = found.get("created", delivery.origin) != delivery.origin
        if another and found["delivered"]["stream_seq"] == delivery.sequence:
            return
        await asyncio.sleep(0.05)


@_plant("double run")
def _double_run() -> None:
    """A command that has ended is run once more."""
    create, wait = ScriptedEngine.create, ScriptedEngine.wait
    specs: dict[str, Any] = {}

    async def noted(self: ScriptedEngine, spec: Any) -> str:
        container_id = await create(self, spec)
        specs[container_id] = spec
        return container_id

    async def wait_and_repeat(self: ScriptedEngine, container_id: str) -> Exit:
        exited = await wait(self, container_id)
        if spec := specs.pop(container_id, None):
            again = await create(self, spec)
            await self.start(again)
            await wait(self, again)
        return exited

    ScriptedEngine.create = noted  # type: ignore[method-assign]
    ScriptedEngine.wait = wait_and_repeat  # type: ignore[method-assign]


@_plant("dropped chunk")
def _dropped_chunk() -> None:
    """The second chunk is said to be stored and is not."""
    append = JetStreamOutput.append

    async def append_most(self: JetStreamOutput, token: str, job_id: str, chunk: Chunk, *, after: int) -> int:
        return after if chunk.number == 2 else await append(self, token, job_id, chunk, after=after)

    JetStreamOutput.append = append_most  # type: ignore[method-assign]


@_plant("lost piece")
def _lost_piece() -> None:
    """Part of the output never reaches the pump."""
    output = ScriptedEngine.output

    async def most(self: ScriptedEngine, container_id: str) -> AsyncIterator[Any]:
        first = True
        async for piece in output(self, container_id):
            if not first:
                yield piece
            first = False

    ScriptedEngine.output = most  # type: ignore[method-assign]


@_plant("token kept")
def _token_kept() -> None:
    """Jobs' tokens are not revoked."""

    async def revoke(self: Vault, token: str) -> None:
        del self, token

    Vault.revoke_self = revoke  # type: ignore[method-assign]


@_plant("container kept")
def _container_kept() -> None:
    """Containers are stopped and stay."""

    async def remove(self: ScriptedEngine, container_id: str) -> None:
        await ScriptedEngine.kill(self, container_id)

    ScriptedEngine.remove = remove  # type: ignore[method-assign]


@_plant("wide consumer")
def _wide_consumer() -> None:
    """A queue's consumer gives out more than one job at a time."""
    api = Broker.api

    async def widened(
        self: Broker, subject: str, request: Mapping[str, Any] | None = None, *arguments: Any, **options: Any
    ) -> dict[str, Any]:
        if subject.startswith("CONSUMER.CREATE.WORK") and request:
            request = {**request, "config": {**request["config"], "max_ack_pending": 10}}
        return await api(self, subject, request, *arguments, **options)

    look = JetStreamWorkQueues.look

    async def look_free(self: JetStreamWorkQueues, token: str) -> Look:
        return (await look(self, token))._replace(turn=Turn.FREE)

    Broker.api = widened  # type: ignore[method-assign]
    JetStreamWorkQueues.look = look_free  # type: ignore[method-assign]


@_plant("deaf")
def _deaf() -> None:
    """One queue is never looked at."""
    serve_queue = Worker._serve  # noqa: SLF001 - likewise

    async def serve_others(self: Worker, lead: Lead) -> Tried:
        return Tried.VAIN if lead.token.endswith("a") else await serve_queue(self, lead)

    Worker._serve = serve_others  # type: ignore[method-assign]  # noqa: SLF001 - likewise


@_plant("runs deleted")
def _runs_deleted() -> None:
    """A deleted job is run all the same."""
    load = JetStreamEventLog.load

    async def revived(self: JetStreamEventLog, job_id: str, *, at_least: int = 0) -> Job | None:
        job = await load(self, job_id, at_least=at_least)
        if job is not None and job.state is State.DELETED and Started.kind not in job.facts:
            return msgspec.structs.replace(job, state=State.QUEUED)
        return job

    JetStreamEventLog.load = revived  # type: ignore[method-assign]
