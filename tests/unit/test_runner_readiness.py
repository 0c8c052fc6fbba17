"""When a runner says that it can run jobs."""

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from stint.core.errors import ConfigError, EngineError, EngineUnavailableError
from stint_runner import readiness
from stint_runner.engine.port import Offers
from stint_runner.readiness import Readiness, check_engine


async def away() -> None:
    raise EngineUnavailableError


async def refuses() -> None:
    raise EngineError("No.")


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


async def test_an_engine_that_refuses_to_answer_is_there() -> None:
    assert await missing(refuses) == "The container engine refuses to tell its state: No."


async def test_an_engine_that_cannot_be_asked_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ENGINE_WITHIN", 0.01)
    for offers in (asyncio.Event().wait, away):
        async with asyncio.timeout(5):
            await check_engine(cast("Any", SimpleNamespace(offers=offers)), "crun")


def engine(log_drivers: Collection[str], unenforced: Collection[str] = ()) -> Any:
    async def offers() -> Offers:
        return Offers(runtimes={"crun"}, log_drivers=log_drivers, unenforced=unenforced)

    return SimpleNamespace(offers=offers)


async def test_an_engine_with_other_log_drivers_than_docker_is_refused() -> None:
    with pytest.raises(ConfigError, match="DOCKER_HOST: the engine has no log driver local"):
        await check_engine(engine({"k8s-file", "none", "passthrough", "journald"}), "")


async def test_limits_that_the_engine_ignores_are_told() -> None:
    with capture_logs() as logs:
        await check_engine(engine({"local"}), "")
        await check_engine(engine({"local"}, ["memory", "pids"]), "")
    assert [entry["ignored"] for entry in logs] == [["memory", "pids"]]
