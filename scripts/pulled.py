"""Removes the images that a stack's runners pulled for its jobs."""

import asyncio
from typing import Final

from scripts.compose import docker

from stint.core.errors import StintError
from stint.jetstream import Broker
from stint_runner.housekeeping.image_records import ImageRecord, ImageRecords

WITHIN: Final = 10.0
"""Seconds that NATS may take to tell of them."""


async def remove_pulled(nats_url: str) -> int:
    """Remove what runners pulled onto this engine, which did not have it before; returns how many names.

    An image that a container uses stays, and where NATS does not answer nothing is known: then all of them do.
    """
    engine_id = (await docker("info", "--format", "{{.ID}}")).strip()
    names = {name for record in await _records(nats_url, engine_id) for name in record.names}
    answers = [await docker("image", "rm", name, check=False) for name in sorted(names)]
    return sum(bool(answer) for answer in answers)


async def _records(nats_url: str, engine_id: str) -> list[ImageRecord]:
    broker = Broker(nats_url, name="down")
    broker.start()
    try:
        async with asyncio.timeout(WITHIN):
            await broker.wait_connected()
            return [record async for _, record in ImageRecords(broker).of_engine(engine_id)]
    except (StintError, TimeoutError):
        return []
    finally:
        await broker.close()
