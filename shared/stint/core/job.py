"""The life of a job: its states, and which event leads from one to another.

Everything here is pure and total. An illegal, repeated or stale event changes nothing and raises nothing.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

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


class State(StrEnum):
    """The status of a job, in GoStint's terms."""

    QUEUED = "queued"
    """Accepted, and waiting for its turn. It then starts, or is killed, rejected or deleted."""
    RUNNING = "running"
    """Claimed by a runner."""
    STOPPING = "stopping"
    """A kill was requested while it ran. Its queue still waits for it."""
    SUCCESS = "success"
    """The command exited with 0."""
    FAILED = "failed"
    """The job ran and failed, was killed, or could not run; `reason` says which."""
    NOTAUTHORISED = "notauthorised"
    """The wrapped secret id was invalid, or Vault refused the login with the jobs' role."""
    UNKNOWN = "unknown"
    """Nobody can say how the job ended: its runner was lost, or the engine or the runner failed while it ran."""
    DELETED = "deleted"
    """Deleted. It is never shown again, and never runs."""


_OUTCOMES: Final = frozenset({State.SUCCESS, State.FAILED, State.NOTAUTHORISED, State.UNKNOWN})

TERMINAL: Final = _OUTCOMES | {State.DELETED}
"""States in which a job is over and its queue continues. Only `deleted` leads out of them."""

ACTIVE: Final = frozenset({State.RUNNING, State.STOPPING})
"""States in which a runner has the job."""

LEGAL: Final[Mapping[State | None, Mapping[str, frozenset[State]]]] = {
    None: {Submitted.kind: frozenset({State.QUEUED})},
    State.QUEUED: {
        KillRequested.kind: frozenset({State.QUEUED}),
        Started.kind: frozenset({State.RUNNING}),
        Rejected.kind: frozenset({State.FAILED}),
        Ended.kind: frozenset({State.FAILED, State.NOTAUTHORISED, State.UNKNOWN}),
        Deleted.kind: frozenset({State.DELETED}),
    },
    State.RUNNING: {
        Launched.kind: frozenset({State.RUNNING}),
        KillRequested.kind: frozenset({State.STOPPING}),
        Held.kind: frozenset({State.RUNNING}),
        Released.kind: frozenset({State.RUNNING}),
        Ended.kind: _OUTCOMES,
    },
    State.STOPPING: {
        Launched.kind: frozenset({State.STOPPING}),
        Held.kind: frozenset({State.STOPPING}),
        Released.kind: frozenset({State.STOPPING}),
        Ended.kind: _OUTCOMES,
    },
    State.SUCCESS: {Deleted.kind: frozenset({State.DELETED})},
    State.FAILED: {Deleted.kind: frozenset({State.DELETED})},
    State.NOTAUTHORISED: {Deleted.kind: frozenset({State.DELETED})},
    State.UNKNOWN: {Deleted.kind: frozenset({State.DELETED})},
    State.DELETED: {},
}
"""The only table of transitions: state, kind of event, states it may lead to. None: the job was not submitted yet."""

E = TypeVar("E", bound=AnyEvent)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as computed from its events.

    Attributes:
        token: the token of its queue, from its first `submitted`.
        sequence: of its last message in the stream, legal or not; the aggregate's version.
        facts: the events that counted, by kind, in their order.
    """

    job_id: str
    token: str
    state: State
    sequence: int
    facts: Mapping[str, Record]

    def fact(self, cls: type[E]) -> E | None:
        """The job's event of this type, None if it has not happened or cannot be read."""
        record = self.facts.get(cls.kind)
        return record.event if record is not None and isinstance(record.event, cls) else None

    def time_of(self, *kinds: str) -> str:
        """The stream's time of the first of these kinds that the job has, "" if it has none."""
        return next((self.facts[kind].time for kind in kinds if kind in self.facts), "")

    @property
    def terminal(self) -> bool:
        """Whether the job is over."""
        return self.state in TERMINAL

    @property
    def runner(self) -> str:
        """The id of the runner that claimed it, "" if none did."""
        started = self.fact(Started)
        return started.runner if started else ""

    @property
    def kill_requested(self) -> bool:
        """Whether a kill was requested."""
        return KillRequested.kind in self.facts

    @property
    def held(self) -> bool:
        """Whether its queue waits for a lost runner or for an operator's release."""
        return Held.kind in self.facts and not self.terminal


def evolve(job: Job | None, record: Record) -> Job | None:
    """The job after one more event.

    A stale event, or one of another queue or job, returns `job` itself. An illegal or repeated one changes only
    `sequence`: it is in the stream all the same, and the next append is conditional on it.
    """
    if job is None:
        return _begin(record)
    if record.sequence <= job.sequence or record.token != job.token or record.job_id != job.job_id:
        return job
    target = _target(job.state, record)
    if target is None or record.kind in job.facts:
        return msgspec.structs.replace(job, sequence=record.sequence)
    facts = {**job.facts, record.kind: record}
    return msgspec.structs.replace(job, state=target, sequence=record.sequence, facts=facts)


def fold(records: Iterable[Record], job: Job | None = None) -> Job | None:
    """The job after these events, which may come in any order."""
    for record in sorted(records, key=lambda record: record.sequence):
        job = evolve(job, record)
    return job


def _begin(record: Record) -> Job | None:
    if record.kind != Submitted.kind:
        return None
    return Job(
        job_id=record.job_id,
        token=record.token,
        state=State.QUEUED,
        sequence=record.sequence,
        facts={record.kind: record},
    )


def _target(state: State, record: Record) -> State | None:
    """The state that this event leads to, None if it is illegal here.

    The subject says what happened; the body only adds details. An `ended` whose body cannot be read, or claims a status
    that is not legal here, still ends the job, as `unknown`. Otherwise it would prevent a valid one for ever.
    """
    allowed = LEGAL[state].get(record.kind, frozenset())
    if len(allowed) <= 1:
        return next(iter(allowed), None)
    status = record.event.status if isinstance(record.event, Ended) else ""
    return next((target for target in allowed if target == status), State.UNKNOWN)
