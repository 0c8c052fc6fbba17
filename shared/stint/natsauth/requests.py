"""What a role may request: the calls of JetStream's API, and the subjects, that a task needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stint.core.names.streams import (
    EVENTS,
    IMAGES_BUCKET,
    JOBS_BUCKET,
    KEPT,
    LOGS,
    PAUSES_BUCKET,
    PAYLOADS,
    RUNNERS_BUCKET,
    SESSIONS_BUCKET,
    SIGNERS_BUCKET,
    WORK,
    kv_stream,
)
from stint.core.names.subjects import JS_PREFIX, event_filter

CALLS: Final = "$JS.API."
_BUCKETS: Final = (JOBS_BUCKET, RUNNERS_BUCKET, IMAGES_BUCKET, PAUSES_BUCKET, SESSIONS_BUCKET, SIGNERS_BUCKET)
JOBS, RUNNERS_STREAM, IMAGES, PAUSES, SESSIONS, SIGNERS = (kv_stream(bucket) for bucket in _BUCKETS)
STREAMS: Final = (EVENTS, PAYLOADS, KEPT, WORK, LOGS, JOBS, RUNNERS_STREAM, IMAGES, PAUSES, SESSIONS, SIGNERS)

ANSWERS: Final = 10  # seconds for which several answers to a request are passed on: longer than any read or pull
SUBSCRIBER_ANSWERS: Final = 120  # the same for a subscriber, whose library decides how long a pull stays open


class Request(NamedTuple):
    """A subject of the streams' account that a role may publish to."""

    subject: str  # in the streams' account; may contain wildcards
    # For how many seconds it is answered with several messages; 0 if one message answers it. Until then the server
    # keeps the way back, and goes through all of them whenever somebody ends a subscription.
    many: int = 0

    @property
    def seen_as(self) -> str:
        """The subject in the role's own account."""
        return f"{JS_PREFIX}.{self.subject.removeprefix(CALLS)}" if self.subject.startswith(CALLS) else self.subject


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role, whose users share an account."""

    name: str  # of the role, and of its folder of keys
    requests: Sequence[Request]  # what it may ask of the streams, or publish to them
    hears: Sequence[str] = ()  # what it hears of what the streams accepted
    among: Sequence[str] = ()  # subjects that its users may publish to each other
    # Subjects that its users may publish to those of another role, by its name. They go from account to account: what
    # came into the streams' account from one role cannot be heard by another.
    tells: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # Subjects on which it hears what users of another role publish in their own account, by its name.
    overhears: Mapping[str, Sequence[str]] = field(default_factory=dict)
    never: Sequence[str] = ()  # subjects that its users may not publish, although a request's wildcards match them
    answers: bool = False  # whether its users may answer what other roles tell them
    user: str = ""  # the only user of the role's account, "" if all its users share one

    @property
    def account(self) -> str:
        """The name of its account."""
        return f"STINT_{self.name.upper()}" + (f"_{self.user}" if self.user else "")


def merged(roles: Sequence[Role], *, user: str = "") -> Role:
    """What all of these roles may do, in the account of this user or in one that they share."""
    return Role(
        name=roles[0].name,
        user=user,
        requests=[request for role in roles for request in role.requests],
        hears=[subject for role in roles for subject in role.hears],
        tells={name: [told for role in roles for told in role.tells.get(name, ())] for name in roles[0].tells},
    )


def may_call(*calls: str) -> tuple[Request, ...]:
    """Make these calls of JetStream's API."""
    return tuple(Request(CALLS + call) for call in calls)


def may_read(*streams: str) -> Iterable[Request]:
    """Read any message of these streams, and their state."""
    for stream in streams:
        yield from may_call(f"STREAM.INFO.{stream}", f"STREAM.MSG.GET.{stream}")
        yield Request(f"{CALLS}DIRECT.GET.{stream}", many=ANSWERS)


def may_take(stream: str, consumer: str, answers: int = ANSWERS) -> Iterable[Request]:
    """Take messages from this consumer."""
    yield from may_call(f"CONSUMER.INFO.{stream}.{consumer}")
    yield Request(f"{CALLS}CONSUMER.MSG.NEXT.{stream}.{consumer}", many=answers)
    yield Request(f"$JS.ACK.{stream}.{consumer}.>")


def may_publish(*subjects: str) -> Iterable[Request]:
    """Publish to these subjects of streams."""
    return map(Request, subjects)


def may_append(*kinds: type, token: str = "*") -> Iterable[Request]:
    """Append events of these kinds to the jobs of a queue."""
    return (Request(event_filter(kind.kind, token)) for kind in kinds)  # type: ignore[attr-defined] # of an event


def may_declare() -> Iterable[Request]:
    """Create the streams if they are missing: whoever comes first. One that is there stays as it is."""
    return may_call(*(f"STREAM.{call}.{stream}" for stream in STREAMS for call in ("INFO", "CREATE")))
