"""Jobs as JSON, piece by piece: an answer contains a job's output three times, and memory never holds all of it."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from stint.core.events import Ended
from stint.core.job import Job
from stint.core.output.chain import Chain
from stint.core.view import NEVER, JobView, view
from stint_api.read.job.output import STDERR, STDOUT, Snapshot
from stint_api.read.standing import NO_STANDING, Standing

_ESCAPES: Final = tuple((char.encode(), f"\\u{ord(char):04x}".encode()) for char in "<>&\u2028\u2029")
"""Those of `JsonAnswer`, for bytes: 20 times as fast, which counts for 64 MiB and for long lists."""

_NO_OUTPUT: Final = {"output": "", "stdout": "", "stderr": ""}

_HIDDEN: Final = frozenset({"submission", "sequence"})
"""The fields of a view that clients do not see."""
_SEEN: Final = [name for name in JobView.__struct_fields__ if name not in _HIDDEN]
_seen = attrgetter(*_SEEN)
_Row = msgspec.defstruct("_Row", [*_SEEN, *Standing._fields, *_NO_OUTPUT], rename={"job_id": "_id"})

Take = Callable[[JobView], Awaitable[Snapshot]]


def fields(job: JobView, standing: Standing | None = None) -> dict[str, Any]:
    """What clients see of a view; without its standing what other jobs and pauses cannot change."""
    shown = dict(zip(_SEEN, _seen(job), strict=True))
    return {"_id": shown.pop("job_id"), **shown, **(standing._asdict() if standing else {})}


def _row(job: JobView, standing: Standing) -> msgspec.Struct:
    """The same with empty output: made and encoded in a third of the time, which counts for lists."""
    return _Row(*_seen(job), *standing, *_NO_OUTPUT.values())


def as_stored(job: JobView, size: int, *, whole: bool) -> JobView:
    """The view, with its output's size and completeness corrected: `size` bytes are stored, and seem `whole` or not.

    While a job runs that is the output so far. Once it has ended the size must be what its runner counted.
    """
    whole = whole and (job.ended == NEVER or size == job.output_bytes)
    return msgspec.structs.replace(
        job, output_bytes=max(job.output_bytes, size), output_complete=job.output_complete and whole
    )


def last_seen(job: Job, output: Chain, back_since: str | None) -> dict[str, Any]:
    """A job that is over, for the last event of its live stream, which sent the client this `output`."""
    shown = as_stored(view(job), output.size, whole=output == recorded(job))
    return fields(shown, Standing(back_since=back_since))


def recorded(job: Job | None) -> Chain | None:
    """The whole output, as the job's end says; None if it has not ended."""
    return Chain.recorded(job.fact(Ended)) if job and job.terminal else None


async def one(
    job: JobView, output: Snapshot | None, *, stdout_only: bool, standing: Standing = NO_STANDING
) -> AsyncGenerator[bytes, None]:
    """A job, with its output if that is given. What is found out while the output is read follows it."""
    if output is None:
        yield whole(_row(job, standing))
        return
    known = fields(job, standing)
    del known["error"], known["output_bytes"], known["output_complete"]
    yield whole(known)[:-1]
    yield b',"output":"'
    async for piece in _escaped(output.text(STDOUT if stdout_only else "")):
        yield piece
    if job.error and not output.size:
        # Where nothing ran, what went wrong stands in the output's place.
        yield _escape(job.error)
    for stream in (STDOUT, STDERR):
        yield f'","{stream}":"'.encode()
        async for piece in _escaped(output.text(stream)):
            yield piece
    error = " ".join(filter(None, (job.error, output.damage)))
    found = as_stored(job, output.size, whole=output.whole)
    counted = {"error": error, "output_bytes": found.output_bytes, "output_complete": found.output_complete}
    yield b'",' + whole(counted)[1:]


async def several(
    jobs: Sequence[JobView],
    take: Take | None,
    rest: Mapping[str, Any],
    *,
    stdout_only: bool,
    standings: Mapping[str, Standing],
) -> AsyncGenerator[bytes, None]:
    """A page of jobs under `data`, each with the output that `take` gives, and the page's other fields."""
    if take is None:
        rows = [_row(job, standings.get(job.job_id, NO_STANDING)) for job in jobs]
        yield whole({"data": rows, **rest})
        return
    yield b'{"data":['
    for number, job in enumerate(jobs):
        if number:
            yield b","
        standing = standings.get(job.job_id, NO_STANDING)
        async for piece in one(job, await take(job), stdout_only=stdout_only, standing=standing):
            yield piece
    yield b"]," + whole(rest)[1:]


async def line(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """An answer ends in a newline."""
    async for piece in pieces:
        yield piece
    yield b"\n"


async def _escaped(texts: AsyncIterable[str]) -> AsyncGenerator[bytes, None]:
    async for text in texts:
        if text:
            yield _escape(text)


def _escape(text: str) -> bytes:
    return whole(text)[1:-1]


def whole(value: Any) -> bytes:
    """A value as JSON, in which what means something in a page is escaped: such characters occur only in strings."""
    encoded = msgspec.json.encode(value)
    for char, escape in _ESCAPES:
        encoded = encoded.replace(char, escape)
    return encoded
