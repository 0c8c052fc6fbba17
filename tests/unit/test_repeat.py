"""How long a service waits before it repeats a call."""

import asyncio
from types import SimpleNamespace

import pytest

from stint.core.errors import StintError
from stint.process import waiting


async def test_what_failed_is_repeated_soon_and_what_worked_after_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()

    async def sweep() -> None:
        if len(pauses) < 2:
            raise StintError

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(waiting, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        await waiting.repeat(sweep, lambda: 3600, failed="sweep failed")
    assert [round(pause / longest) for pause, longest in zip(pauses, (5, 5, 3600), strict=True)] == [1, 1, 1]
