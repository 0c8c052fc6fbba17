"""Facts for tests, with ids that tell them apart."""

from datetime import UTC, datetime
from itertools import count

from stint.core.events import (
    AnyEvent,
    Deleted,
    Ended,
    Held,
    KillRequested,
    Launched,
    Record,
    Rejected,
    Released,
    Started,
    Submitted,
)
from stint.core.job import Job, fold
from stint.core.names.ids import queue_token

_ids = count(1)
AT = "2026-01-02T03:04:05Z"
QUEUE = "deploys"
TOKEN = queue_token(QUEUE)


def utc_now() -> datetime:
    """The clock of services whose machine's is right."""
    return datetime.now(UTC)


def event_id() -> str:
    return f"event-{next(_ids)}"


def submitted(qname: str = QUEUE) -> Submitted:
    return Submitted(
        event_id=event_id(), at=AT, by="someone", qname=qname, ticket="vault:v1:x", payload_chunks=1, payload_bytes=1
    )


def started(runner: str = "runner-1") -> Started:
    return Started(event_id=event_id(), at=AT, by=runner, runner=runner)


def launched() -> Launched:
    return Launched(event_id=event_id(), at=AT, container_id="c" * 64, container_image="busybox")


def ended(status: str = "success", reason: str = "", return_code: int = 0) -> Ended:
    return Ended(
        event_id=event_id(), at=AT, status=status, reason=reason, return_code=return_code, output_complete=True
    )


def kill_requested() -> KillRequested:
    return KillRequested(event_id=event_id(), at=AT)


def held(runner: str = "runner-1") -> Held:
    return Held(event_id=event_id(), at=AT, runner=runner)


def released() -> Released:
    return Released(event_id=event_id(), at=AT)


def rejected() -> Rejected:
    return Rejected(event_id=event_id(), at=AT, error="no submission")


def deleted() -> Deleted:
    return Deleted(event_id=event_id(), at=AT)


def record(event: AnyEvent, sequence: int, *, token: str = TOKEN, job_id: str = "0" * 24) -> Record:
    return Record(
        sequence=sequence,
        time=f"2026-01-02T03:04:{sequence % 60:02d}.123456789Z",
        kind=event.kind,
        token=token,
        job_id=job_id,
        event=event,
    )


def records(*events: AnyEvent) -> list[Record]:
    return [record(event, number) for number, event in enumerate(events, start=1)]


def job_of(*events: AnyEvent) -> Job:
    """The job that these events make."""
    job = fold(records(*events))
    assert job is not None
    return job
