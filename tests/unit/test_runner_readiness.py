"""When a runner says that it can run jobs."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stint.core.errors import EngineUnavailableError
from stint_runner import readiness
from stint_runner.readiness import Readiness, check_runtime


async def away() -> None:
    raise EngineUnavailableError


async def missing(info: Any, *, vault: bool = True) -> str:
    """What is missing with this answer of the engine, while NATS is there."""

    async def health() -> bool:
        return vault

    broker = SimpleNamespace(client=SimpleNamespace(is_connected=True))
    vault_and_engine = SimpleNamespace(health=health, info=info)
    return await Readiness(*cast("Any", (broker, vault_and_engine, vault_and_engine, ()))).missing()


async def test_it_is_ready_once_all_parts_answer() -> None:
    assert await missing(lambda: asyncio.sleep(0)) == ""
    assert await missing(lambda: asyncio.sleep(0), vault=False) == "Vault is not reachable or sealed."


async def test_an_engine_that_hangs_is_missing_like_one_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ENGINE_WITHIN", 0.01)
    for info in (asyncio.Event().wait, away):
        async with asyncio.timeout(5):
            assert await missing(info) == "The container engine is not reachable."


async def test_a_runtime_that_cannot_be_looked_up_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ENGINE_WITHIN", 0.01)
    for runtimes in (asyncio.Event().wait, away):
        async with asyncio.timeout(5):
            await check_runtime(cast("Any", SimpleNamespace(runtimes=runtimes)), "crun")
