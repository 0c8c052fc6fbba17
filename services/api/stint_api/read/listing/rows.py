"""Views as rows of the table, and what a list needs of them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from stint.core.view import NEVER, JobView, parse_time
from stint.ports import StoredView
from stint_api.read.listing.feed import Change
from stint_api.read.listing.query import STATES, Place, microseconds
from stint_api.read.listing.texts import TEXTS

_JOB_ID: Final = re.compile("[0-9a-f]{24}")
NAMED: Final = ((2, "queue", "name"), *((8 + place, f"{name}_text", "text") for place, name in enumerate(TEXTS)))
"""Where in a row a name stands that the table has as a number, and the table and column that give it one."""


class StoredJob(JobView, frozen=True, kw_only=True, array_like=True):
    """A view as the table has it: half as long without the names of its fields."""


def row_of(job: JobView, revision: int, retention: int) -> list[Any]:
    """The row of a job, in the order of the table's columns, with names for numbers. `retention` is in microseconds."""
    return [
        bytes.fromhex(job.job_id),
        bytes.fromhex(job.job_id[::-1]),
        job.qname,
        STATES.index(job.status),
        job.held,
        microseconds(parse_time(job.submitted)),
        job.submission,
        None if job.ended == NEVER else microseconds(parse_time(job.ended)) + retention,
        job.container_image or None,
        job.submitted_by or None,
        f"{job.reason} {job.error}".strip().casefold() or None,
        revision,
        msgspec.json.encode(msgspec.structs.astuple(job)).decode(),
    ]


def changes(
    last: Mapping[str, StoredView], views: Mapping[str, JobView | None], before: Mapping[str, tuple[str, int]]
) -> Iterator[Change]:
    """What has changed, if these views have come in the place of those before. Nothing, where there were none."""
    for job_id, job in views.items():
        known = before.get(job_id)
        if job or known:
            qname = job.qname if job else known[0] if known else ""
            yield Change(last[job_id].revision, job_id, qname, job, STATES[known[1]] if known else None)


def keys_of(job_ids: Iterable[str]) -> Sequence[bytes]:
    """The keys of the jobs with these ids, without those that are no ids."""
    return [bytes.fromhex(job_id) for job_id in job_ids if _JOB_ID.fullmatch(job_id)]


def place_of(job: JobView) -> Place:
    """Where the next page begins, if this is the last job of one."""
    return Place(microseconds(parse_time(job.submitted)), job.job_id)
