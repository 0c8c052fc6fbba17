"""Views for tests."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from stint.core.job import State
from stint.core.view import NEVER, JobView
from stint.ports import StoredView, ViewStore


def job_view(
    number: int, *, qname: str = "a", status: str = "queued", ended: str = NEVER, held: bool = False
) -> JobView:
    return JobView(
        job_id=f"{number:024x}",
        status=State(status),
        node_uuid="",
        qname=qname,
        container_image="busybox",
        container_id="",
        submitted=f"2026-01-01T00:00:{number:02d}{'.5' if number % 2 else ''}Z",
        started=NEVER,
        ended=ended,
        return_code=0,
        tty=False,
        kill_requested=False,
        reason="",
        error="",
        submitted_by="",
        output_bytes=0,
        output_complete=True,
        output_truncated=False,
        output_masked=0,
        held=held,
        sequence=number,
    )


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
