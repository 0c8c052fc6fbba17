"""Views for tests."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec

from stint.core.codec import encode
from stint.core.job import State
from stint.core.view import NEVER, JobView, view
from stint.jetstream import Broker, JetStreamEventLog, JetStreamViews
from stint.ports import StoredView, ViewStore
from stint_api.read.listing.table import Table
from tests.support.events import job_of, submitted

RETENTION = timedelta(hours=6)
_VIEW = msgspec.structs.replace(view(job_of(submitted())), container_image="busybox", submitted_by="", submission=0)


def job_view(
    number: int, *, qname: str = "a", status: str = "queued", ended: str = NEVER, held: bool = False
) -> JobView:
    fields = {"job_id": f"{number:024x}", "status": State(status), "qname": qname, "ended": ended, "held": held}
    submitted = f"2026-01-01T00:00:{number:02d}{'.5' if number % 2 else ''}Z"
    return msgspec.structs.replace(_VIEW, **fields, submitted=submitted, sequence=number)


def stored(job: JobView, **changes: object) -> StoredView:
    return StoredView(job_id=job.job_id, revision=1, value=encode(msgspec.structs.replace(job, **changes)))


def empty() -> Table:
    """A table that is complete."""
    table = Table(RETENTION)
    table.complete()
    return table


def filled(*jobs: JobView) -> Table:
    table = empty()
    if jobs:
        table.apply([stored(job) for job in jobs])
    return table


@asynccontextmanager
async def followed(views: ViewStore) -> AsyncIterator[AsyncIterator[StoredView | None]]:
    """What a follower is told, one by one, and None once it knows all there was."""
    async with views.follow() as pages:
        yield _one_by_one(pages)


async def _one_by_one(pages: AsyncIterator[Sequence[StoredView]]) -> AsyncIterator[StoredView | None]:
    complete = False
    async for page in pages:
        for stored in page:
            yield stored
        if not page and not complete:
            complete = True
            yield None


async def all_views(broker: Broker) -> dict[str, bytes]:
    """By the ids of their jobs."""
    found: dict[str, bytes] = {}
    async with followed(JetStreamViews(broker)) as changes:
        while (change := await anext(changes)) is not None:
            if change.value is not None:
                found[change.job_id] = change.value
    return found


async def folded(broker: Broker, job_ids: Sequence[str]) -> dict[str, bytes]:
    """What the views of these jobs should be, by the log: those that are deleted, or forgotten, have none."""
    jobs = [await JetStreamEventLog(broker).load(job_id) for job_id in job_ids]
    return {job.job_id: encode(view(job)) for job in jobs if job is not None and job.state is not State.DELETED}


async def until_shown(views: ViewStore, wanted: Mapping[str, bytes], *, seconds: float) -> None:
    """Return once the views are these, by the ids of their jobs."""
    async with asyncio.timeout(seconds), followed(views) as changes:
        found: dict[str, bytes] = {}
        async for change in changes:
            if change is not None and change.value is not None:
                found[change.job_id] = change.value
            elif change is not None:
                found.pop(change.job_id, None)
            if found == wanted:
                return
