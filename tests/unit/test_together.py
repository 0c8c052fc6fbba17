"""What a runner does at the same time, and what it knows of images: their files, and when one was used."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from stint.core.codec import decode
from stint.core.errors import BrokerUnavailableError, StintError
from stint_runner import __main__ as root
from stint_runner.engine.port import ImageUse
from stint_runner.housekeeping import image_keeper
from stint_runner.housekeeping.image_keeper import ImageRecord
from stint_runner.inputs.files import REMEMBERED, SMALL, ImageFiles, ImageLibrary
from stint_runner.retry import retry
from stint_runner.together import side_by_side
from tests.support.faults import failing


async def raising(error: Exception, *after: asyncio.Event) -> None:
    for event in after:
        await event.wait()
    raise error


async def test_the_results_come_in_the_order_of_the_arguments() -> None:
    event = asyncio.Event()

    async def late() -> int:
        await event.wait()
        return 1

    async def early() -> str:
        event.set()
        return "2"

    assert await side_by_side(late(), early()) == (1, "2")
    assert await side_by_side() == ()


async def test_the_first_error_in_that_order_counts_however_late_it_comes() -> None:
    event = asyncio.Event()

    async def second() -> None:
        event.set()
        raise ZeroDivisionError

    with pytest.raises(BrokerUnavailableError):
        await side_by_side(raising(BrokerUnavailableError(), event), second())


async def test_a_cancellation_ends_all_before_it_goes_on() -> None:
    begun, ended = asyncio.Semaphore(0), list[int]()

    async def hanging(number: int) -> None:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    working = asyncio.create_task(side_by_side(hanging(1), hanging(2)))
    for _ in range(2):
        await begun.acquire()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert sorted(ended) == [1, 2]


async def test_a_call_is_repeated_while_its_server_is_unavailable_and_for_no_other_error() -> None:
    async def call() -> int:
        return 7

    away = BrokerUnavailableError()
    assert await retry(failing(call, away, away)) == 7
    with pytest.raises(StintError, match="other"):
        await retry(failing(call, away, StintError("other")))
    with pytest.raises(BrokerUnavailableError):
        await retry(failing(call, *[away] * 100), within=0.01)


class Images:
    """An engine whose container `c` is of the image that a test names, with the files that it gives it."""

    def __init__(self) -> None:
        self.image = "sha256:1"
        self.files: dict[str, bytes] = {"/etc/passwd": b"root"}
        self.reads = 0

    async def image_of(self, container_id: str) -> str:
        assert container_id == "c"
        return self.image

    async def read_file(self, container_id: str, path: str) -> bytes | None:
        assert container_id == "c"
        self.reads += 1
        return self.files.get(path)


async def test_an_images_files_are_read_once() -> None:
    engine = Images()
    library = ImageLibrary(engine)  # type: ignore[arg-type] # the part of an engine that it uses
    for _ in range(3):
        assert await library.files("c") == ImageFiles(image_id="sha256:1", manifest=None, passwd=b"root")
    assert engine.reads == 2
    engine.image, engine.files = "sha256:2", {"/gostint_image.yml": b"a: b"}
    assert await library.files("c") == ImageFiles(image_id="sha256:2", manifest=b"a: b", passwd=None), (
        "the name means another image now"
    )
    assert engine.reads == 4


@pytest.mark.parametrize(("image", "size"), [("", 1), ("sha256:1", SMALL + 1)])
async def test_what_has_no_id_or_is_large_is_read_each_time(image: str, size: int) -> None:
    engine = Images()
    engine.image, engine.files = image, {"/etc/passwd": bytes(size)}
    library = ImageLibrary(engine)  # type: ignore[arg-type] # as above
    for _ in range(2):
        await library.files("c")
    assert engine.reads == 4


async def test_the_images_used_last_are_remembered() -> None:
    engine = Images()
    library = ImageLibrary(engine)  # type: ignore[arg-type] # as above
    for number in range(REMEMBERED + 1):
        for engine.image in ("always", f"{number}"):
            await library.files("c")
    reads = engine.reads
    for engine.image in ("always", f"{REMEMBERED}"):
        await library.files("c")
    assert engine.reads == reads
    engine.image = "0"
    await library.files("c")
    assert engine.reads == reads + 2


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
