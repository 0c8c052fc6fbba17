"""Carries a schedule out on a world."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final

import msgspec

from stint.core.names.streams import WORK
from stint.jetstream import JetStreamEventLog, JetStreamHistory, JetStreamOutput
from stint.process.background import cancel
from stint_runner.retry import retry
from tests.chaos.evidence import Pause
from tests.chaos.schedule import Fault
from tests.chaos.supervised import Supervised
from tests.chaos.world import World
from tests.support.brokers import declare_anew
from tests.support.outputs import places_of

LOOK: Final = 0.2
"""Seconds between two looks for a job in a certain state."""
Kind = Callable[[World, Fault, AsyncExitStack], Awaitable[None]]
"""Begins a fault, and pushes what lifts it."""


async def inject(world: World, faults: Sequence[Fault]) -> list[Pause]:
    """All of them, each at its time; returns them as they happened."""
    start = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_inject(world, fault, start)) for fault in faults]
    return [task.result() for task in tasks]


async def _inject(world: World, fault: Fault, start: float) -> Pause:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(start + fault.at - loop.time())
    if fault.target < 0:
        fault = msgspec.structs.replace(fault, target=await _busy_runner(world))
    begin = datetime.now(UTC)
    async with AsyncExitStack() as lifting:
        await _KINDS[fault.kind](world, fault, lifting)
        await asyncio.sleep(fault.length)
    return Pause(fault.kind, fault.place, begin, datetime.now(UTC))


async def _busy_runner(world: World) -> int:
    """Whose job has begun to write."""
    log, output = JetStreamEventLog(world.broker), JetStreamOutput(world.broker)
    while True:
        for place in await places_of(output):
            job = await log.load(place.job_id)
            if job is not None and not job.terminal and job.runner:
                return world.runner_ids.index(job.runner)
        await asyncio.sleep(LOOK)


def _kill(services: Callable[[World], list[Supervised]]) -> Kind:
    async def kill(world: World, fault: Fault, lifting: AsyncExitStack) -> None:
        service = services(world)[fault.target]
        service.kill()
        lifting.callback(service.resume)

    return kill


async def _pause(world: World, fault: Fault, lifting: AsyncExitStack) -> None:
    service = world.runners[fault.target]
    service.pause()
    lifting.callback(service.resume)


async def _partition(world: World, fault: Fault, lifting: AsyncExitStack) -> None:
    for proxy in world.proxies[fault.target]:
        lifting.callback(proxy.heal)
        if fault.kind == "partition drop":
            proxy.drop()
        else:
            proxy.stall()


async def _nats(world: World, fault: Fault, lifting: AsyncExitStack) -> None:
    """Of a cluster, target 0 is whoever leads the stream of events."""
    leads = await retry(world.leader) if len(world.nats) > 1 else 0
    server = world.nats[(leads + fault.target) % len(world.nats)]
    others = [other for other in world.nats if other is not server]
    if fault.kind.endswith("pause"):
        paused = others if "quorum" in fault.kind and others else [server]
        for one in paused:
            one.pause()
            lifting.callback(one.resume)
    else:
        await server.kill()
        lifting.push_async_callback(server.start)


async def _runner_and_nats(world: World, fault: Fault, lifting: AsyncExitStack) -> None:
    """As when both are on a machine that is started anew: the runner finds a NATS that knows of no delivery."""
    await _kill(lambda world: world.runners)(world, fault, lifting)
    await _nats(world, msgspec.structs.replace(fault, target=0), lifting)


async def _vault(world: World, _fault: Fault, lifting: AsyncExitStack) -> None:
    await world.seal()
    lifting.push_async_callback(world.unseal)


async def _consumer(world: World, fault: Fault, _lifting: AsyncExitStack) -> None:
    """What holds a queue's lease is gone, and the job is delivered again while it runs."""
    listed = await retry(lambda: world.broker.api(f"CONSUMER.LIST.{WORK}", {"offset": 0}))
    consumers = listed.get("consumers") or ()
    busy = sorted(info["name"] for info in consumers if info["num_ack_pending"])
    if busy:
        chosen = busy[fault.target % len(busy)]
        await retry(lambda: world.broker.api(f"CONSUMER.DELETE.{WORK}.{chosen}"))


async def _consumers_come_and_go(world: World, _fault: Fault, lifting: AsyncExitStack) -> None:
    """Consumers go at any moment: one that holds a job, is just delivering one, or has just been made."""
    lifting.push_async_callback(cancel, asyncio.create_task(_delete_consumers(world)))


async def _delete_consumers(world: World) -> None:
    while True:
        listed = await retry(lambda: world.broker.api(f"CONSUMER.NAMES.{WORK}", {"offset": 0}))
        for name in listed.get("consumers") or ():
            await retry(lambda name=name: world.broker.api(f"CONSUMER.DELETE.{WORK}.{name}"))  # type: ignore[misc]
        await asyncio.sleep(LOOK)


async def _work(world: World, _fault: Fault, _lifting: AsyncExitStack) -> None:
    """The stream of pending jobs is lost, and made again from the events."""
    await retry(lambda: world.broker.api(f"STREAM.DELETE.{WORK}"))
    await declare_anew(world.broker, world.plan.servers)


async def _work_renumbered(world: World, fault: Fault, lifting: AsyncExitStack) -> None:
    """The same, while a job has ended and is not acknowledged yet, and with the first job forgotten before.

    The number of the ended job in the new stream is that of the job behind it.
    """
    history = JetStreamHistory(world.broker)
    first = await _acknowledged_before_one_that_is_over(history)
    await history.forget(first, before=datetime.now(UTC))
    await _work(world, fault, lifting)


async def _acknowledged_before_one_that_is_over(history: JetStreamHistory) -> str:
    """The first job, once it has left `WORK` and the next has ended there."""
    while True:
        strays = await history.strays()
        first = await anext(history.older_than(datetime.now(UTC)), "")
        over = {place.job_id for place in strays.over} if strays else set()
        if over and first not in over:
            return first
        await asyncio.sleep(LOOK)


_KINDS: dict[str, Kind] = {
    "runner kill": _kill(lambda world: world.runners),
    "projector kill": _kill(lambda world: world.projectors),
    "api kill": _kill(lambda world: world.apis),
    "runner pause": _pause,
    "partition stall": _partition,
    "partition drop": _partition,
    "consumer delete": _consumer,
    "consumer churn": _consumers_come_and_go,
    "work recreate": _work,
    "work renumber": _work_renumbered,
    "nats kill": _nats,
    "nats pause": _nats,
    "nats quorum pause": _nats,
    "runner and nats kill": _runner_and_nats,
    "vault seal": _vault,
}
