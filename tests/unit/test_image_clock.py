"""How long an image is kept is judged by the clock of NATS: that of a runner's machine may be wrong by days."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from stint.core.codec import decode
from stint_runner import __main__ as root
from stint_runner.engine.port import ImageUse
from stint_runner.housekeeping import image_keeper
from stint_runner.housekeeping.image_keeper import ImageRecord

THERE = datetime(2001, 2, 3, tzinfo=UTC)


class Records:
    """A bucket without records, which keeps what is written."""

    def __init__(self) -> None:
        self.written = list[ImageRecord]()

    async def read(self, key: str) -> None:
        del key

    async def write(self, key: str, value: bytes, **condition: float) -> int:
        del key, condition
        self.written.append(decode(value, ImageRecord))
        return 1


class Engine:
    def tell_of_images(self, used: Callable[[ImageUse], Awaitable[None]]) -> None:
        self.used = used

    async def info(self) -> dict[str, str]:
        return {"engine_id": "engine"}


async def test_an_image_is_used_at_a_time_of_nats(monkeypatch: pytest.MonkeyPatch) -> None:
    records, engine = Records(), Engine()
    monkeypatch.setattr(image_keeper, "Bucket", lambda _broker, _name: records)
    settings, parts = SimpleNamespace(image_retention=60.0), SimpleNamespace(run=None)
    runner = SimpleNamespace(settings=settings, engine=engine, phases=parts)
    clock: Any = SimpleNamespace(run=None, now=lambda: THERE)
    presence = SimpleNamespace(announce=None, heed_drains=None)
    root._background(runner, None, clock, presence, parts)  # type: ignore[arg-type] # noqa: SLF001 - what they have is enough
    await engine.used(ImageUse(image_id="image", name="app:1", is_new=True))
    assert [record.used for record in records.written] == [THERE.timestamp()]
