"""Faults for the checker to find, planted in a runner. `tests.chaos.projector` has those of projectors."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partialmethod
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

Method = Callable[..., Any]

_PLANTS: Final[defaultdict[str, list[Callable[[], None]]]] = defaultdict(list)
"""What breaks a runner, by its name in the setting. The name of no part is `no watchdog`, which `UNWATCHED` has."""
UNWATCHED: Final = frozenset({"no fence", "no watchdog"})
"""With these the watchdog is blind: it would see to what the runner does not."""
LATE: Final = 15.0
"""Seconds that a late acknowledgement waits at most for what it is to hit."""


def plant(names: str) -> bool:
    """Break this process in these ways, in this order, names with commas; whether its watchdog is to see."""
    wanted = names.split(",")
    for name in wanted:
        for break_it in _PLANTS.get(name, ()):  # others are the projector's
            break_it()
    return UNWATCHED.isdisjoint(wanted)


def _plant(name: str, owner: type, method: str) -> Callable[[Method], Method]:
    """In the place of this method, which the function is given behind `self`."""

    def planted(function: Method) -> Method:
        _PLANTS[name].append(lambda: setattr(owner, method, partialmethod(function, getattr(owner, method))))
        return function

    return planted


def _set(name: str, owner: Any, **attributes: object) -> None:
    """Set these attributes of a class or a module."""
    _PLANTS[name].extend(lambda item=item: setattr(owner, *item) for item in attributes.items())  # type: ignore[misc]


def _nothing(*_: object) -> None:
    """What a method does that is skipped."""


async def _nothing_async(*_: object) -> None:
    """Likewise."""


_set("no fence", Lease, _lose=_nothing)
"""A lease is never taken for lost."""
_set("heartbeats believed", LeasedJob, see=_nothing, _pull_again=_nothing_async)
"""An answered heartbeat is taken for a lease, and the log is not asked. A lost consumer is left for others to make."""
_set("no takeover", LeaseTimes, check=_nothing, dead=0.0, told=0.0)
"""T is 0, and the lease of the runner that was lost tells nothing."""
_set("eager", finder, RECONCILE=0.3, LOOK=0.3)
"""No fault: what is pending is found at once, so that nothing but T lies between a lease and the next."""


@_plant("no fence", Lease, "keep")
async def _keep(self: Lease, _keep: Method, after_each: Method, pull_again: Method) -> None:
    while True:
        await asyncio.sleep(self.times.heartbeat)
        await self._renew(pull_again)
        await self.look(after_each)


@_plant("taken at once", JetStreamDelivery, "__init__")
def _expired(self: JetStreamDelivery, make: Method, *arguments: Any, **options: Any) -> None:
    """A job that another has started is taken over, although its consumer is new, and has never delivered it before."""
    make(self, *arguments, **options)
    self.after_expiry = True


@_plant("no takeover", Dispatcher, "__init__")
def _without_takeover(self: Dispatcher, make: Method, runner: Runner) -> None:
    make(self, replace(runner, settings=runner.settings.model_copy(update={"takeover": 0.0})))


_LEASES: Final[list[Lease]] = []


@_plant("early ack", Lease, "__init__")
def _noted(self: Lease, make: Method, *arguments: Any, **options: Any) -> None:
    make(self, *arguments, **options)
    _LEASES.append(self)


@_plant("early ack", ScriptedEngine, "start")
async def _start_and_ack(self: ScriptedEngine, start: Method, container_id: str) -> None:
    """The queue is let go when the job has started."""
    await start(self, container_id)
    while _LEASES:
        await _LEASES.pop().delivery.ack()


@_plant("unchecked ack", JetStreamDelivery, "ack")
async def _ack_unchecked(self: JetStreamDelivery, _ack: Method) -> None:
    """Whether the delivery is the queue's last is not asked."""
    await self._broker.request(self.ack_subject, Msg.Ack.Ack)
    await self._remover.remove(self.token, self.sequence)


@_plant("late ack", JetStreamDelivery, "ack")
async def _ack_late(self: JetStreamDelivery, ack: Method) -> None:
    """No fault: the second job's acknowledgement comes when its number is that of another delivery."""
    if self.sequence == 2:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE):
                await _delivered_again(self)
    await ack(self)


async def _delivered_again(delivery: JetStreamDelivery) -> None:
    """Until another consumer of the same queue has given out the same number."""
    while True:
        found = await delivery._broker.api(f"CONSUMER.INFO.{WORK}.{delivery._consumer}")  # noqa: SLF001 - what a fault needs is inside
        another = found.get("created", delivery.origin) != delivery.origin
        if another and found["delivered"]["stream_seq"] == delivery.sequence:
            return
        await asyncio.sleep(0.05)


_SPECS: Final[dict[str, Any]] = {}


@_plant("double run", ScriptedEngine, "create")
async def _create_noted(self: ScriptedEngine, create: Method, spec: Any) -> str:
    container_id: str = await create(self, spec)
    _SPECS[container_id] = spec
    return container_id


@_plant("double run", ScriptedEngine, "wait")
async def _wait_and_repeat(self: ScriptedEngine, wait: Method, container_id: str) -> Exit:
    """A command that has ended is run once more."""
    exited: Exit = await wait(self, container_id)
    if spec := _SPECS.pop(container_id, None):
        again = await self.create(spec)
        del _SPECS[again]
        await self.start(again)
        await wait(self, again)
    return exited


@_plant("dropped chunk", JetStreamOutput, "append")
async def _append_most(
    self: JetStreamOutput, append: Method, token: str, job_id: str, chunk: Chunk, *, after: int
) -> Any:
    """The second chunk is said to be stored and is not."""
    return after if chunk.number == 2 else await append(self, token, job_id, chunk, after=after)


@_plant("lost piece", ScriptedEngine, "output")
async def _most(self: ScriptedEngine, output: Method, container_id: str) -> AsyncIterator[Any]:
    """Part of the output never reaches the pump."""
    pieces = output(self, container_id)
    await anext(pieces, None)
    async for piece in pieces:
        yield piece


_set("token kept", Vault, revoke_self=_nothing_async)
"""Jobs' tokens are not revoked."""
_set("container kept", ScriptedEngine, remove=ScriptedEngine.kill)
"""Containers are stopped and stay."""


@_plant("wide consumer", Broker, "api")
async def _widened(
    self: Broker, api: Method, subject: str, request: Mapping[str, Any] | None = None, *rest: Any, **options: Any
) -> Any:
    """A queue's consumer gives out more than one job at a time."""
    if subject.startswith("CONSUMER.CREATE.WORK") and request:
        request = {**request, "config": {**request["config"], "max_ack_pending": 10}}
    return await api(self, subject, request, *rest, **options)


@_plant("wide consumer", JetStreamWorkQueues, "look")
async def _look_free(self: JetStreamWorkQueues, look: Method, token: str) -> Look:
    found: Look = await look(self, token)
    return found._replace(turn=Turn.FREE)


@_plant("deaf", Worker, "_serve")
async def _serve_others(self: Worker, serve_queue: Method, lead: Lead) -> Any:
    """One queue is never looked at."""
    return Tried.VAIN if lead.token.endswith("a") else await serve_queue(self, lead)


@_plant("runs deleted", JetStreamEventLog, "load")
async def _revived(self: JetStreamEventLog, load: Method, job_id: str, **options: Any) -> Job | None:
    """A deleted job is run all the same."""
    job: Job | None = await load(self, job_id, **options)
    if job is not None and job.state is State.DELETED and Started.kind not in job.facts:
        return msgspec.structs.replace(job, state=State.QUEUED)
    return job
