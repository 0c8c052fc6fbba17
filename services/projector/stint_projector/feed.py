"""Keeps the view up with the log."""

import asyncio
from typing import Final

import structlog
from nats.aio.msg import Msg

from stint.errors import BrokerUnavailableError, InvalidJobIdError, InvalidTokenError
from stint.events import Submitted
from stint.jetstream import EventFeed
from stint.subjects import BAD_QUEUE_TOKEN, EventAddress, parse_event_subject
from stint_projector.project import Projector

log = structlog.get_logger()

LANES: Final = 16
"""Jobs that are worked on side by side. The facts of one job stay in one lane, in order."""
LANE_LENGTH: Final = 64
RECONNECT_PAUSE: Final = 0.5
"""Seconds after which a server that went away is asked again."""


class Follower:
    """Projects every event of a feed, at least once."""

    def __init__(self, feed: EventFeed, projector: Projector) -> None:
        self._feed = feed
        self._projector = projector
        self._lanes: list[asyncio.Queue[tuple[EventAddress, Msg]]] = [asyncio.Queue(LANE_LENGTH) for _ in range(LANES)]

    async def run(self) -> None:
        """Follow until cancelled, through any outage."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._work(lane))
            while True:
                try:
                    await self._feed.declare()
                    async for message in self._feed.pull():
                        await self._sort(message)
                except BrokerUnavailableError:
                    await asyncio.sleep(RECONNECT_PAUSE)

    async def _sort(self, message: Msg) -> None:
        try:
            address = parse_event_subject(message.subject)
        except (InvalidTokenError, InvalidJobIdError):
            address = None
        if address is None or address.token == BAD_QUEUE_TOKEN:
            await self._feed.ack(message)  # names no job: outside the view
            return
        await self._lanes[hash(address.job_id) % LANES].put((address, message))

    async def _work(self, lane: "asyncio.Queue[tuple[EventAddress, Msg]]") -> None:
        covered: dict[str, int] = {}
        while True:
            address, message = await lane.get()
            try:
                sequence, create = message.metadata.sequence.stream, address.kind == Submitted.kind
                if create or sequence > covered.get(address.job_id, 0):
                    covered[address.job_id] = await self._projector.project(
                        address.job_id, create=create, at_least=sequence
                    )
                await self._feed.ack(message)
            except BrokerUnavailableError:
                continue  # not acknowledged: it comes again
            except Exception:  # one event can never stop the view
                log.exception("event not projected", job=address.job_id)
            if lane.empty():
                covered.clear()
