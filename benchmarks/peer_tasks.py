"""The benchmark's container as a task of Celery, RQ and taskiq, each used as its manual shows.

Runs in .venv/peers, which has these packages and nothing of Stint. Workers import this module. As a program it is the
client: `python -m benchmarks.peer_tasks celery` runs as many tasks at once as each line of its input says.
"""

import asyncio
import functools
import os
import sys
from typing import Any, Final

import aiodocker
import docker
from celery import Celery
from redis import Redis
from rq import Queue
from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

from benchmarks.bare import IMAGE, Bare, archives

REDIS: Final = os.environ["REDIS_URL"]
NATS: Final = os.environ["NATS_URL"]
NKEY: Final = os.environ["STINT_NATS_NKEY_FILE"]
PATIENCE: Final = 120
"""Seconds that a task may take."""
LOOK: Final = 0.005
"""Seconds between two looks at a result of taskiq, which offers no other way to wait for one."""


@functools.lru_cache
def _docker_py() -> Any:
    return docker.from_env()


@functools.lru_cache
def _aiodocker() -> Bare:
    return Bare(aiodocker.Docker())


def container() -> None:
    """The same steps as `Bare.job`, through docker-py."""
    made = _docker_py().containers.create(IMAGE, ["true"])
    for archive in archives():
        made.put_archive("/", archive)
    made.start()
    made.wait()
    made.logs()
    made.remove(v=True)


async def container_async() -> None:
    """`Bare.job` itself."""
    await _aiodocker().job()


celery_app = Celery(broker=REDIS, backend=REDIS, broker_connection_retry_on_startup=True)
celery_task = celery_app.task(container, name="container")
taskiq_broker = PullBasedJetStreamBroker(
    [NATS], subject="taskiq", durable="taskiq", nkeys_seed=NKEY
).with_result_backend(NATSObjectStoreResultBackend([NATS], nkeys_seed=NKEY))
taskiq_task = taskiq_broker.register_task(container_async, task_name="container")


async def _celery(count: int) -> None:
    for result in [celery_task.delay() for _ in range(count)]:
        result.get(timeout=PATIENCE)


async def _rq(count: int) -> None:
    queue = Queue(
        connection=Redis.from_url(REDIS, socket_timeout=None)
    )  # longer than its default for what a result may take
    for job in [queue.enqueue("benchmarks.peer_tasks.container") for _ in range(count)]:
        result = job.latest_result(timeout=PATIENCE)
        if result is None or result.type is not result.Type.SUCCESSFUL:
            raise RuntimeError(f"a task of RQ failed: {result}")


async def _taskiq(count: int) -> None:
    async def one() -> None:
        result = await (await taskiq_task.kiq()).wait_result(check_interval=LOOK, timeout=PATIENCE)
        result.raise_for_error()

    await asyncio.gather(*(one() for _ in range(count)))


async def _serve(name: str) -> None:
    run = {"celery": _celery, "rq": _rq, "taskiq": _taskiq}[name]
    if name == "taskiq":
        await taskiq_broker.startup()
    await run(1)
    print("ready", flush=True)  # noqa: T201 - its answers
    while count := await asyncio.to_thread(sys.stdin.readline):
        await run(int(count))
        print("done", flush=True)  # noqa: T201 - likewise
    if name == "taskiq":
        await taskiq_broker.shutdown()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
