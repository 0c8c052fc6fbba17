"""Reads the evidence of a run from the servers themselves."""

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import aiodocker
import httpx
from nats.aio.msg import Msg

from stint.core.codec import encode
from stint.core.events import Ended, Started
from stint.core.job import Job, State
from stint.core.names.headers import CHUNK_DIGEST, CHUNK_NUMBER, CHUNK_OFFSET, CHUNK_STREAM, LABEL_JOB, LABEL_RUNNER
from stint.core.names.streams import EVENTS, JOBS_BUCKET, LOGS, PAYLOADS, PROJECTOR_DURABLE, WORK, kv_stream
from stint.core.output.chain import Chunk
from stint.core.view import parse_time, view
from stint.jetstream import Broker
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.protocol import sequence_of, subject_of
from stint_runner.retry import retry
from tests.chaos.evidence import Pause, Sight
from tests.chaos.plan import ROOT
from tests.chaos.world import World
from tests.support.vault_bench import ROLE

T = TypeVar("T")

LOOK: Final = 0.5
"""Seconds between two looks."""


async def _all(broker: Broker, stream: str) -> AsyncIterator[Msg]:
    async for page in Stream(broker, stream).pages():
        for message in page:
            yield message


async def views(broker: Broker) -> dict[str, bytes]:
    """The view's values, without what was deleted or has expired."""
    found: dict[str, bytes] = {}
    async for message in _all(broker, kv_stream(JOBS_BUCKET)):
        job_id = subject_of(message).rpartition(".")[2]
        if message.data:
            found[job_id] = message.data
        else:
            found.pop(job_id, None)
    return found


async def settled_views(world: World, jobs: Mapping[str, Job]) -> dict[str, bytes]:
    """The view's values once they are what the facts say, or after the plan's `settle`."""
    wanted = {job_id: encode(view(job)) for job_id, job in jobs.items() if job.state is not State.DELETED}
    return await _settled(world, lambda: views(world.broker), lambda found: found == wanted)


async def _settled(world: World, look: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    loop = asyncio.get_running_loop()
    until = loop.time() + world.plan.settle
    while not good(found := await retry(look, within=world.plan.settle)) and loop.time() < until:  # noqa: ASYNC110 - no event tells of all this
        await asyncio.sleep(LOOK)
    return found


async def output(broker: Broker) -> dict[str, list[Chunk]]:
    found: dict[str, list[Chunk]] = defaultdict(list)
    async for message in _all(broker, LOGS):
        headers = message.headers or {}
        chunk = Chunk(
            number=int(headers[CHUNK_NUMBER]),
            offset=int(headers[CHUNK_OFFSET]),
            stream=headers[CHUNK_STREAM],
            digest=headers[CHUNK_DIGEST],
            data=message.data,
            sequence=sequence_of(message),
        )
        found[subject_of(message).rpartition(".")[2]].append(chunk)
    return found


def truth(folder: Path) -> dict[str, list[Sight]]:
    """What the jobs saw, by queue."""
    return {log.stem: [Sight(*line.split()) for line in log.read_text().splitlines()] for log in folder.glob("*.log")}


async def rebuild(world: World) -> None:
    """Make the view again, as an operator does."""
    environ = {"NATS_URL": world.nats_url, "PYTHONPATH": str(ROOT), "STINT_REPLICAS": str(world.plan.servers)}
    environ |= world.accounts.environ("operator")
    command = [sys.executable, "-m", "stint_projector.rebuild"]
    with (world.folder / "rebuild.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=log, stderr=log)
    assert await process.wait() == 0


async def settled(world: World, excused: int) -> list[tuple[str, str]]:
    """What is left behind once nothing changes any more, or after the plan's `settle`."""
    return await _settled(world, lambda: _left(world, excused), lambda left: not left)


async def worked_off(world: World) -> None:
    """Return once no work waits, or after the plan's `settle`: that of deleted jobs waits for a runner, too."""
    await _settled(world, lambda: _subjects(world.broker, WORK), lambda left: not left)


async def _left(world: World, excused: int) -> list[tuple[str, str]]:
    return [
        *[("container", name) for name in await _containers(world)],
        *[("payload", subject) for subject in await _subjects(world.broker, PAYLOADS)],
        *[("work", subject) for subject in await _subjects(world.broker, WORK)],
        *[("consumer", name) for name in await _consumers(world.broker)],
        *[("token", name) for name in (await _tokens(world))[excused:]],
    ]


async def _containers(world: World) -> list[str]:
    if world.engines:
        found = await asyncio.gather(*(engine.find({LABEL_JOB: ""}) for engine in world.engines))
        return [container.container_id for containers in found for container in containers]
    async with aiodocker.Docker() as docker:
        listed = await docker.containers.list(all=True, filters={"label": [LABEL_JOB]})
    return [container.id for container in listed if container["Labels"].get(LABEL_RUNNER) in world.runner_ids]


async def _subjects(broker: Broker, stream: str) -> list[str]:
    return sorted([subject async for page in Stream(broker, stream).counts(">") for subject in page])


async def _consumers(broker: Broker) -> list[str]:
    """Queues' consumers go by themselves when they are idle; what is pending at one never does.

    So do those in memory, through which APIs read views.
    """
    found: list[str] = []
    for stream in (EVENTS, LOGS, PAYLOADS, WORK, kv_stream(JOBS_BUCKET)):
        answer = await broker.api(f"CONSUMER.LIST.{stream}", {"offset": 0})
        for info in answer["consumers"] or ():
            config, idle = info["config"], stream == WORK and not info["num_ack_pending"]
            # One without a name is an API's that runs; the server removes it seconds after its last pull.
            if not (idle or config.get("mem_storage") or config.get("durable_name") in {None, "", PROJECTOR_DURABLE}):
                found.append(f"{stream}/{info['name']}")
    return found


async def _tokens(world: World) -> list[str]:
    """Accessors of jobs' tokens that are still good."""
    headers = {"X-Vault-Token": world.bao.root_token}
    found: list[str] = []
    async with httpx.AsyncClient(base_url=world.bao.address, headers=headers, trust_env=False) as vault:
        listed = await vault.request("LIST", "/v1/auth/token/accessors")
        for accessor in listed.json()["data"]["keys"]:
            answer = await vault.post("/v1/auth/token/lookup-accessor", json={"accessor": accessor})
            if ROLE in (answer.json().get("data", {}).get("policies") or ()):
                found.append(accessor)
    return found


def excused_tokens(jobs: Mapping[str, Job], faults: Sequence[Pause], margin: float) -> int:
    """Jobs that ran when a fault happened: whoever held their tokens may not have been able to revoke them."""
    return sum(_met(job, faults, margin) for job in jobs.values() if Started.kind in job.facts)


def _met(job: Job, faults: Sequence[Pause], margin: float) -> bool:
    begin: Any = parse_time(job.time_of(Started.kind)).timestamp() - margin
    end = parse_time(job.time_of(Ended.kind)).timestamp() + margin if job.time_of(Ended.kind) else float("inf")
    return any(fault.begin.timestamp() < end and begin < fault.end.timestamp() for fault in faults)
