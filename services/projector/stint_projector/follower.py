"""Keeps the view up to date with the log."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

import structlog

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.jetstream import Delivered, EventFeed
from stint.process.waiting import for_each
from stint_projector.folder import Changes, Folder, job_of
from stint_projector.project import Projector

log = structlog.get_logger()

CONCURRENCY: Final = 16
"""Jobs that are loaded at a time."""
HEARTBEATS: Final = 3
"""Heartbeats within the feed's `ack_wait` for events that wait here."""
DELIVERIES: Final = 10
"""Deliveries after which an event that cannot be projected is skipped, unless NATS is unavailable: nobody else would
find what is missing in the view."""
RECONNECT_PAUSE: Final = 0.5
"""Seconds before a request to an unavailable server is repeated."""


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
        self._folder = Folder()
        self.following = False

    async def run(self) -> None:
        """Follow until cancelled, through any outage."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_heartbeats())
                while True:
                    try:
                        await self._follow()
                    except BrokerUnavailableError:
                        pass  # what was not acknowledged is delivered again
                    except BrokerRefusedError as error:
                        # For example when the consumer is deleted while another projector creates it.
                        log.warning("event feed refused, retrying", error=error.sentence)
                    self.following = False
                    await asyncio.sleep(RECONNECT_PAUSE)
        finally:
            with suppress(BrokerUnavailableError):
                await self._feed.leave()

    async def _follow(self) -> None:
        await self._feed.declare()
        self._folder.forget()
        self.following = True
        async with aclosing(self._feed.batches()) as batches:
            async for events in batches:
                await self._project(events)

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._feed.ack_wait / HEARTBEATS)
            with suppress(BrokerUnavailableError):  # without a heartbeat the events are delivered again
                await self._feed.heartbeat()

    async def _project(self, events: Sequence[Delivered]) -> None:
        changes = self._folder.fold(events)
        failed = await self._project_each(await self._project_folded(changes))
        await self._feed.ack([event for event in events if not failed or _is_done(event, failed)])

    async def _project_folded(self, changes: Changes) -> Mapping[str, int]:
        """Project the folded jobs all at once. Returns those that must be loaded, all of them if that fails."""
        projected = None
        try:
            projected = await self._projector.project_all(changes.folded)
        except BrokerUnavailableError:
            raise
        except Exception:  # one by one, the others will not fail
            log.exception("events not projected together")
        if projected is None:
            return {**changes.unknown, **{known.job.job_id: known.job.sequence for known in changes.folded}}
        self._folder.remember(projected)
        return changes.unknown

    async def _project_each(self, jobs: Mapping[str, int]) -> Mapping[str, bool]:
        """Project jobs from the log; returns those that failed, whose events are delivered again.

        For each of them: whether that need not be its own fault, because NATS was unavailable.
        """
        failed: dict[str, bool] = {}

        async def project(job_id: str) -> None:
            try:
                if projected := await self._projector.project(job_id, at_least=jobs[job_id]):
                    self._folder.remember([projected])
            except BrokerUnavailableError:
                failed[job_id] = True
            except Exception:  # one event must not stop the view
                log.exception("event not projected", job=job_id)
                failed[job_id] = False

        await for_each(jobs, project, at_once=CONCURRENCY)
        return failed


def _is_done(event: Delivered, failed: Mapping[str, bool]) -> bool:
    """Whether an event need not be delivered again: its job was projected, or cannot be."""
    unavailable = failed.get(job_of(event))
    return unavailable is None or (not unavailable and event.deliveries >= DELIVERIES)
