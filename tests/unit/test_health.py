import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from structlog.testing import capture_logs

from stint.process import health
from stint.process.health import readyz, watched


class Look:
    """A readiness that a test answers."""

    def __init__(self) -> None:
        self.begun = 0
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        self.asked.set()
        await self.answer.wait()
        return f"missing {self.begun}"


async def test_those_who_ask_at_the_same_time_share_one_look() -> None:
    look = Look()
    app = Starlette(routes=[Route("/readyz", readyz(look))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        asking = [asyncio.create_task(http.get("/readyz")) for _ in range(50)]
        await look.asked.wait()
        await asyncio.wait(asking, timeout=0)
        asking.pop(0).cancel()  # who began it leaves
        await asyncio.wait(asking, timeout=0)
        look.answer.set()
        answers = await asyncio.gather(*asking)
        assert {answer.text for answer in answers} == {"missing 1\n"}
        assert (await http.get("/readyz")).text == "missing 2\n"


async def test_a_change_of_the_readiness_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WATCH_INTERVAL", 0.0)
    answers, asked_all = iter(["", "No NATS.", "No NATS.", "No Vault.", "", ""]), asyncio.Event()

    async def missing() -> str:
        try:
            return next(answers)
        except StopIteration:
            asked_all.set()
            return ""

    with capture_logs() as logs:
        async with watched(missing):
            await asked_all.wait()
    told = [(entry["event"], entry.get("missing")) for entry in logs]
    assert told == [("not ready", "No NATS."), ("not ready", "No Vault."), ("ready again", None)]
