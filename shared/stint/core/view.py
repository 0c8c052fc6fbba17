"""The queryable view of a job: what a GET shows, without its output."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from stint.core.codec import decode
from stint.core.errors import InvalidJobIdError, InvalidQueueNameError, UndecodableError
from stint.core.events import (
    NAME_LENGTH,
    TEXT_LENGTH,
    Ended,
    Held,
    Int64,
    KillRequested,
    Launched,
    Record,
    Rejected,
    Started,
    Submitted,
)
from stint.core.job import Job, State
from stint.core.names.ids import check_job_id, queue_name, queue_token

_Zoned = Annotated[datetime, Meta(tz=True)]

NEVER: Final = "0001-01-01T00:00:00Z"
"""How GoStint writes the time of something that has not happened yet."""


class JobView(msgspec.Struct, frozen=True, kw_only=True, rename={"job_id": "_id"}):
    """A job as REST clients see it, minus `output`, `stdout` and `stderr`. Times that have not come are `NEVER`."""

    job_id: Annotated[str, Meta(description="The job's id.", extra_json_schema={"pattern": "^[0-9a-f]{24}$"})]
    status: Annotated[State, Meta(description="Where it stands.")]
    node_uuid: Annotated[str, Meta(description='The runner that claimed it, "" if none has.')]
    qname: Annotated[str, Meta(description="Its queue, lower-cased.")]
    container_image: Annotated[
        str, Meta(description='The image as requested; "" for a sealed job that has not been opened yet.')
    ]
    container_id: Annotated[str, Meta(description='The engine\'s id of its container, "" until it has one.')]
    submitted: Annotated[str, Meta(description="When it was accepted.")]
    started: Annotated[str, Meta(description="When a runner claimed it.")]
    ended: Annotated[str, Meta(description="When it ended.")]
    return_code: Annotated[Int64, Meta(description="The command's exit code; 0 if none ran.")]
    tty: Annotated[bool, Meta(description="Whether it has a terminal.")]
    kill_requested: Annotated[bool, Meta(description="Whether a kill was requested.")]
    kill_requested_at: Annotated[str, Meta(description="When a kill was requested.")] = NEVER
    kill_grace: Annotated[
        float, Meta(description="Seconds from SIGTERM to SIGKILL after a kill; 0 if it is not known.")
    ] = 0.0
    reason: Annotated[str, Meta(description="Why it did not succeed, in one word.")]
    error: Annotated[
        str,
        Meta(
            description='The reason in words; "" if the command ran, unless it timed out or its end is not known. '
            "Never a secret."
        ),
    ]
    submitted_by: Annotated[str, Meta(description="Vault's display name of the token that submitted it.")]
    output_bytes: Annotated[Int64, Meta(description="Size of its output so far, as it was stored.")]
    output_complete: Annotated[
        bool,
        Meta(
            description="Whether the output is known to be complete, up to the limit. "
            "While it runs: whether nothing is missing so far."
        ),
    ]
    output_truncated: Annotated[bool, Meta(description="Whether output beyond the limit was dropped.")]
    output_masked: Annotated[Int64, Meta(description="How many times a secret's value was replaced in its output.")] = 0
    held: Annotated[
        bool, Meta(description="Whether its runner was lost, and its queue waits for that runner or for a release.")
    ] = False
    held_since: Annotated[str, Meta(description="When it was noticed that its runner was lost.")] = NEVER
    rerun_of: Annotated[str, Meta(description='Id of the job that it runs again, "" if none.')] = ""
    submission: Annotated[
        Int64, Meta(description="The sequence of its submission, which is its place in the queue.")
    ] = 0
    sequence: Annotated[Int64, Meta(description="The last sequence it was folded from; a newer view has a higher one.")]


def read_view(job_id: str, stored: bytes) -> JobView:
    """Decode a stored view. Raises UndecodableError if it is none, another job's, or has a wrong time or queue name."""
    shown = decode(stored, JobView)
    try:
        for moment in (shown.submitted, shown.started, shown.ended, shown.held_since, shown.kill_requested_at):
            check_time(moment)
        _check_queue_name(shown.qname)
        own_id = check_job_id(shown.job_id)
    except (ValueError, InvalidQueueNameError, InvalidJobIdError):
        raise UndecodableError("Not a JobView: the id, a time or the queue's name is wrong.") from None
    if shown.job_id != job_id or own_id != job_id:
        raise UndecodableError("Not a JobView of this job.")
    return shown


_check_queue_name = lru_cache(1024)(queue_token)
"""Many views are of the same few queues."""


def view(job: Job) -> JobView:
    """The view of a job. The same events always give the same bytes.

    Everybody who lists jobs keeps views in memory, so that texts that a publisher may write are cut.
    """
    submitted, started, launched = job.fact(Submitted), job.fact(Started), job.fact(Launched)
    end = job.fact(Ended) or _end_without_words(job)
    return JobView(
        job_id=job.job_id,
        status=job.state,
        node_uuid=job.runner,
        qname=queue_name(job.token),
        container_image=(
            (launched.container_image if launched else "")
            or end.container_image
            or (submitted.container_image if submitted else "")
        )[:TEXT_LENGTH],
        container_id=launched.container_id if launched else "",
        submitted=_time(job.time_of(Submitted.kind)),
        started=_time(job.time_of(Started.kind)),
        ended=_time(ended_time(job)),
        return_code=end.return_code,
        tty=launched.tty if launched else bool(submitted and submitted.tty),
        kill_requested=KillRequested.kind in job.facts,
        kill_requested_at=_time(job.time_of(KillRequested.kind)),
        kill_grace=started.kill_grace if started else 0.0,
        reason=end.reason,
        error=end.error,
        submitted_by=submitted.by[:NAME_LENGTH] if submitted else "",
        output_bytes=end.output_bytes,
        output_complete=end.output_complete,
        output_truncated=end.output_truncated,
        output_masked=end.output_masked,
        held=job.held,
        rerun_of=submitted.rerun_of[:NAME_LENGTH] if submitted else "",
        held_since=_time(job.time_of(Held.kind)),
        submission=job.facts[Submitted.kind].sequence,
        sequence=job.sequence,
    )


def ended_time(job: Job) -> str:
    """The stream's time of the job's end, "" while it has none."""
    return job.time_of(Ended.kind, Rejected.kind)


def back_since(job: Job, output: str = "") -> str | None:
    """Since when the lost runner of a job that is or was held is seen to be back, None if it is not.

    No event records its return. Only that runner stores output, launches the container and ends the job, but for an end
    as `lost`: the first of these since the job was held is the first sign of it. `output` is the stream's time of the
    first output since then, "" if there is none.
    """
    held = job.facts.get(Held.kind)
    if held is None:
        return None
    signs = [record.time for record in job.facts.values() if record.sequence > held.sequence and _of_its_runner(record)]
    if output:
        signs.append(output)
    return rfc3339(min(map(parse_time, signs))) if signs else None


def _of_its_runner(record: Record) -> bool:
    ended = isinstance(record.event, Ended) and record.event.reason != "lost"
    return ended or record.kind == Launched.kind


def expiry(job: Job, retention: timedelta) -> datetime | None:
    """When the job stops being readable, None if it has not ended."""
    ended = ended_time(job)
    return parse_time(ended) + retention if ended else None


@lru_cache(1024)
def parse_time(text: str) -> datetime:
    """An RFC 3339 time; one without a zone is UTC. Digits beyond microseconds are dropped.

    Raises ValueError if it is no such time, or in UTC not in the years 1 to 9999.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("not a time") from None


@lru_cache(1024)
def check_time(text: str) -> None:
    """Raise ValueError unless every client can read the time: RFC 3339 with a zone."""
    try:
        msgspec.convert(text, _Zoned)
    except msgspec.ValidationError:
        raise ValueError("not a time") from None
    parse_time(text)


def rfc3339(moment: datetime) -> str:
    """In UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _end_without_words(job: Job) -> Ended:
    """The end of a job without a readable `ended`. Output counts as complete if the job never ran, or still runs."""
    rejected = job.fact(Rejected)
    over = job.terminal and job.state is not State.DELETED  # only what never ran, or is over, can be deleted
    reason = "rejected" if Rejected.kind in job.facts else "internal" if over else ""
    return Ended(
        event_id="",
        at="",
        status=job.state,
        reason=reason,
        error=rejected.error if rejected else "",
        output_complete=reason != "internal",
    )


def _time(stream_time: str) -> str:
    """A time with at most milliseconds and without trailing zeros, as Go prints it."""
    if not stream_time:
        return NEVER
    moment = parse_time(stream_time)
    fraction = f"{moment.microsecond // 1000:03d}".rstrip("0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}Z"
