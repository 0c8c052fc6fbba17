"""Messages that no stream has: between the services, each with its own key."""

import asyncio
from pathlib import Path

from stint.core.names.subjects import drain_subject
from stint.core.phase import JobPhase
from stint.jetstream import JetStreamPhases
from stint.ports import PhaseReport, Place
from tests.support.accounts import Accounts
from tests.support.servers import NatsProcess, running

PLACE = Place("q", "a" * 24)


async def test_the_api_hears_what_a_runner_does_and_a_runner_hears_of_its_drain(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "keys")
    server = NatsProcess(tmp_path / "nats", settings=accounts.settings)
    async with (
        asyncio.timeout(30),
        running(server),
        accounts.connected(server.url, "api") as api,
        accounts.connected(server.url, "runner") as runner,
        JetStreamPhases(api).hear() as reports,
        runner.subscribe(drain_subject("runner-1")) as drains,
    ):
        await asyncio.gather(api.client.flush(), runner.client.flush())
        phase = JobPhase(phase="pulling", progress=0.5)
        await runner.send("phase.nonsense.q", b"{")
        await JetStreamPhases(runner).tell(PLACE, phase)
        assert await anext(reports) == PhaseReport(PLACE.job_id, phase)
        await api.send(drain_subject("runner-2"), b"not for this one")
        await api.send(drain_subject("runner-1"), b"anna")
        assert (await anext(drains.messages)).data == b"anna"
