"""A NATS that is there and does not do what runners ask: that is no fault of their jobs."""

import asyncio
from pathlib import Path
from typing import Any

import aiodocker
import pytest
from structlog.testing import capture_logs

from stint.core.names.streams import PAUSES_BUCKET, kv_stream
from stint.jetstream import Broker
from stint_runner.dispatch import worker
from tests.support.brokers import connected
from tests.support.full_nats import FILL, SMALL, fill
from tests.support.runner_bench import Bench, make_bench
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.waiting import until_true


class Noted:
    """What NATS says to a connection's publishes; `refused` is set with each refusal."""

    def __init__(self, broker: Broker) -> None:
        self.refused = asyncio.Event()
        self._publish = broker.publish

    async def publish(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        answer = await self._publish(*arguments, **options)
        if "error" in answer:
            self.refused.set()
        return answer


async def test_a_job_that_ends_while_its_account_is_full_succeeds_once_there_is_room(
    openbao: OpenBao, busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats = NatsProcess(tmp_path / "nats", settings=SMALL)
    async with running(nats), connected(nats.url) as broker, connected(nats.url) as filling:
        bench, noted = await make_bench(broker, openbao, busybox, tmp_path), Noted(broker)
        async with bench.runner():
            job_id = await bench.running("trap 'go=1' USR1; echo up; until [ $go ]; do sleep 0.1; done; echo down")
            await fill(filling)
            monkeypatch.setattr(broker, "publish", noted.publish)
            (container,) = await bench.containers(job_id)
            async with aiodocker.Docker() as docker:
                await docker.containers.container(container.container_id).kill(signal="USR1")
            await noted.refused.wait()
            await filling.api(f"STREAM.DELETE.{FILL}")
            job, end = await bench.end(job_id)
        assert (end.status, end.output_complete, await bench.text(job)) == ("success", True, "up\ndown\n")


async def test_a_job_waits_while_its_queue_may_be_paused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket was deleted under the runners. The next service that starts makes it again."""
    monkeypatch.setattr(worker, "RECONCILE", 0.2)
    await bench.broker.api(f"STREAM.DELETE.{kv_stream(PAUSES_BUCKET)}")
    with capture_logs() as said:
        async with bench.runner():
            job_id = await bench.submit()
            await until_true(lambda: said)
            await bench.declare()
            await bench.ends_well(job_id)
    assert "stream not found" in said[0]["error"]
