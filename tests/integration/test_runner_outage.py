"""Runners when NATS goes away under them."""

import asyncio

from stint.core.job import State
from stint.core.subjects import LABEL_JOB, queue_token
from stint.jetstream import Broker
from stint_runner.engine.port import Engine
from stint_runner.lease.lease import LeaseTimes
from tests.support.brokers import connected
from tests.support.containers import OpenBao
from tests.support.outputs import written
from tests.support.runner_bench import Bench, make_bench
from tests.support.servers import NatsProcess
from tests.support.waiting import until

LEASE = 3.0
"""Seconds: short, so that the test is."""
TAKEOVER = 7.0
"""Seconds: as short as the times of such a lease allow."""


async def _started(bench: Bench, script: str) -> str:
    job_id = await bench.submit(script)
    async with written(bench.output, queue_token("deploys"), job_id) as tail, asyncio.timeout(30):
        await anext(tail)
    return job_id


async def _stands(engine: Engine, job_id: str, seconds: float) -> None:
    """Return once the job's container runs no longer; its removal may take a busy engine longer."""
    await until(
        lambda: engine.find({LABEL_JOB: job_id}),
        lambda found: not any(container.running for container in found),
        seconds=seconds,
    )


async def test_a_runner_that_cannot_renew_ends_its_container_and_the_queue_goes_on(
    nats_process: NatsProcess, openbao: OpenBao, busybox: str
) -> None:
    async with connected(nats_process.url) as broker:
        bench = await make_bench(broker, openbao, busybox)
        async with bench.runner(lease=LEASE, takeover=TAKEOVER):
            job_id = await _started(bench, "echo up; sleep 600")
            good = await bench.submit("true")
            await nats_process.kill()
            times = LeaseTimes(lease=LEASE, takeover=TAKEOVER)
            await _stands(
                bench.engine(), job_id, times.lease - times.margin + times.takeover
            )  # before a successor runs
            await nats_process.start()
            await broker.wait_connected()
            job, end = await bench.end(job_id)
            assert (job.state, end.reason) == (State.UNKNOWN, "lost")
            assert (await bench.end(good))[0].state is State.SUCCESS


async def test_a_short_outage_goes_unnoticed_by_the_job(
    nats_process: NatsProcess, openbao: OpenBao, busybox: str
) -> None:
    async with connected(nats_process.url) as broker:
        bench = await make_bench(broker, openbao, busybox)
        async with bench.runner():
            job_id = await _started(bench, "echo up; sleep 2.5; echo still up")
            await nats_process.restart()
            job, end = await _end_after_outage(bench, broker, job_id)
    assert (job, end) == (State.SUCCESS, "up\nstill up\n")


async def _end_after_outage(bench: Bench, broker: Broker, job_id: str) -> tuple[State, str]:
    await broker.wait_connected()
    job, _ = await bench.end(job_id)
    return job.state, await bench.text(job)
