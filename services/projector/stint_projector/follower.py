"""Keeps the view up to date with the log."""

import asyncio
import contextlib
from typing import Final

import structlog
from nats.aio.msg import Msg

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError, InvalidJobIdError, InvalidTokenError
from stint.core.events import Submitted
from stint.core.subjects import BAD_QUEUE_TOKEN, EventAddress, parse_event_subject
from stint.jetstream import EventFeed
from stint_projector.project import Projector

log = structlog.get_logger()

LANES: Final = 16
"""Jobs that are processed concurrently. The events of one job stay in one lane, in order."""
HEARTBEATS: Final = 3
"""Heartbeats within the feed's `ack_wait` for events that wait here."""
REMEMBERED: Final = 1000
"""Jobs for which a lane remembers up to which sequence they have been projected."""
DELIVERIES: Final = 10
"""Deliveries after which an event that cannot be projected is skipped."""
RECONNECT_PAUSE: Final = 0.5
"""Seconds before a request to an unavailable server is repeated."""

Lane = asyncio.Queue[tuple[EventAddress, int]]
"""Events by address and sequence. The feed limits their number over all lanes."""


class Follower:
    """Projects every event of a feed, at least once.

    It keeps the events that it has received as long as it lives, however slow the projection is. If it dies or hangs,
    NATS delivers them to another projector.

    Attributes:
        following: whether the feed is delivering events at the moment.
    """

    def __init__(self, feed: EventFeed, projector: Projector) -> None:
        self._feed = feed
        self._projector = projector
        self.following = False
        self._held: dict[int, Msg] = {}
        self._lanes: list[Lane] = [asyncio.Queue() for _ in range(LANES)]

    async def run(self) -> None:
        """Follow until cancelled, through any outage."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_heartbeats())
            for lane in self._lanes:
                group.create_task(self._project(lane))
            while True:
                try:
                    await self._feed.declare()
                    self.following = True
                    async for message in self._feed.pull():
                        await self._dispatch(message)
                except (BrokerUnavailableError, BrokerRefusedError) as error:
                    # Refused, for example, when the consumer is deleted while another projector creates it.
                    if isinstance(error, BrokerRefusedError):
                        log.warning("event feed refused, retrying", error=error.sentence)
                    self.following = False
                    await asyncio.sleep(RECONNECT_PAUSE)

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._feed.ack_wait / HEARTBEATS)
            try:
                for message in list(self._held.values()):
                    await self._feed.heartbeat(message)
            except BrokerUnavailableError:
                continue  # without a heartbeat the events are delivered again

    async def _dispatch(self, message: Msg) -> None:
        try:
            address = parse_event_subject(message.subject)
        except (InvalidTokenError, InvalidJobIdError):
            address = None
        if address is None or address.token == BAD_QUEUE_TOKEN:
            await self._feed.ack(message)  # it names no job, so there is no view of it
            return
        sequence = message.metadata.sequence.stream
        waiting, self._held[sequence] = sequence in self._held, message
        if not waiting:
            self._lanes[hash(address.job_id) % LANES].put_nowait((address, sequence))

    async def _project(self, lane: Lane) -> None:
        projected: dict[str, int] = {}
        while True:
            address, sequence = await lane.get()
            try:
                create = address.kind == Submitted.kind
                if create or sequence > projected.get(address.job_id, 0):
                    projected[address.job_id] = await self._projector.project(
                        address.job_id, create=create, at_least=sequence
                    )
                await self._feed.ack(self._held[sequence])
            except BrokerUnavailableError:
                continue  # not acknowledged, so it is delivered again
            except Exception:  # one event must not stop the view
                log.exception("event not projected", job=address.job_id)
                await self._give_up(sequence)
            finally:
                del self._held[sequence]
            if lane.empty() or len(projected) > REMEMBERED:
                projected.clear()

    async def _give_up(self, sequence: int) -> None:
        """Skip an event that has failed too often, so that it does not block others. A rebuild processes it again."""
        message = self._held[sequence]
        if message.metadata.num_delivered >= DELIVERIES:
            with contextlib.suppress(BrokerUnavailableError):
                await self._feed.ack(message)
