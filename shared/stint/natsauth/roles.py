"""What each role may publish, request and hear. This is the only list of NATS permissions.

Lists of subjects within one account are no boundary: nobody checks the reply subject of a publish, so the answer of a
stream can be directed into any other stream. So the streams have an account of their own, each role has another one,
and only these subjects are passed on between them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from stint.core.events import Deleted, Ended, Held, KillRequested, Launched, Rejected, Released, Started, Submitted
from stint.core.names.ids import BAD_QUEUE_TOKEN, queue_token
from stint.core.names.patterns import QueuePatterns
from stint.core.names.streams import (
    EVENTS,
    IMAGES_BUCKET,
    JOBS_BUCKET,
    KEPT,
    LOGS,
    PAUSES_BUCKET,
    PAYLOADS,
    PROJECTOR_DURABLE,
    RUNNERS_BUCKET,
    SESSIONS_BUCKET,
    WORK,
    consumer_name,
    kv_stream,
    subscription,
)
from stint.core.names.subjects import (
    AUTH_GROUP,
    AUTH_REQUESTS,
    JS_PREFIX,
    barrier_subject,
    drain_subject,
    event_filter,
    hint_subject,
    kept_subject,
    kv_subject,
    live_filter,
    log_subject,
    output_subject,
    payload_subject,
    phase_subject,
    tail_subject,
    work_subject,
)

_API: Final = "$JS.API."
_BUCKETS: Final = (JOBS_BUCKET, RUNNERS_BUCKET, IMAGES_BUCKET, PAUSES_BUCKET, SESSIONS_BUCKET)
_JOBS, _RUNNERS, _IMAGES, _PAUSES, _SESSIONS = (kv_stream(bucket) for bucket in _BUCKETS)
STREAMS: Final = (EVENTS, PAYLOADS, KEPT, WORK, LOGS, _JOBS, _RUNNERS, _IMAGES, _PAUSES, _SESSIONS)


ANSWERS: Final = 10
"""Seconds for which the server passes on several answers to a request: longer than any read or pull of a service."""
SUBSCRIBER_ANSWERS: Final = 120
"""The same for a subscriber, whose library decides how long a pull stays open."""


class Request(NamedTuple):
    """A subject of the streams' account that a role may publish to.

    Attributes:
        subject: in the streams' account; may contain wildcards.
        many: for how many seconds it is answered with several messages; 0 if one message answers it. Until then the
            server keeps the way back, and goes through all of them whenever somebody ends a subscription.
    """

    subject: str
    many: int = 0

    @property
    def seen_as(self) -> str:
        """The subject in the role's own account."""
        return f"{JS_PREFIX}.{self.subject.removeprefix(_API)}" if self.subject.startswith(_API) else self.subject


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role, whose users share an account.

    Attributes:
        name: of the role, and of its folder of keys.
        requests: what it may ask of the streams, or publish to them.
        hears: what it hears of what the streams accepted.
        among: subjects that its users may publish to each other.
        tells: subjects that its users may publish to those of another role, by its name. They go from account to
            account: what came into the streams' account from one role cannot be heard by another.
        answers: whether its users may answer what other roles tell them.
        overhears: subjects on which it hears what users of another role publish in their own account, by its name.
        never: subjects that its users may not publish, although a request's wildcards match them.
        user: the only user of the role's account, "" if all its users share one.
    """

    name: str
    requests: Sequence[Request]
    hears: Sequence[str] = ()
    among: Sequence[str] = ()
    tells: Mapping[str, Sequence[str]] = field(default_factory=dict)
    overhears: Mapping[str, Sequence[str]] = field(default_factory=dict)
    never: Sequence[str] = ()
    answers: bool = False
    user: str = ""

    @property
    def account(self) -> str:
        """The name of its account."""
        return f"STINT_{self.name.upper()}" + (f"_{self.user}" if self.user else "")


def _api(*calls: str) -> tuple[Request, ...]:
    return tuple(Request(_API + call) for call in calls)


def _read(*streams: str) -> Iterable[Request]:
    """Read any message of these streams, and their state."""
    for stream in streams:
        yield from _api(f"STREAM.INFO.{stream}", f"STREAM.MSG.GET.{stream}")
        yield Request(f"{_API}DIRECT.GET.{stream}", many=ANSWERS)


def _consume(stream: str, consumer: str, pattern: str = "") -> Iterable[Request]:
    """Create this consumer, of the messages on `pattern` or of all, and take messages from it."""
    created = f"{stream}.{consumer}.{pattern}" if pattern else f"{stream}.{consumer}"
    yield from _api(f"CONSUMER.CREATE.{created}")
    yield from _take(stream, consumer)


def _take(stream: str, consumer: str, answers: int = ANSWERS) -> Iterable[Request]:
    """Take messages from this consumer."""
    yield from _api(f"CONSUMER.INFO.{stream}.{consumer}")
    yield Request(f"{_API}CONSUMER.MSG.NEXT.{stream}.{consumer}", many=answers)
    yield Request(f"$JS.ACK.{stream}.{consumer}.>")


def _publish(*subjects: str) -> Iterable[Request]:
    return map(Request, subjects)


def _events(*kinds: type, token: str = "*") -> Iterable[Request]:
    return (Request(event_filter(kind.kind, token)) for kind in kinds)  # type: ignore[attr-defined] # of an event


def _declare() -> Iterable[Request]:
    """Create the streams if they are missing: whoever comes first. One that is there stays as it is."""
    return _api(*(f"STREAM.{call}.{stream}" for stream in STREAMS for call in ("INFO", "CREATE")))


_BARRIER: Final = barrier_subject("*")
ANY: Final = "*"
"""In place of a queue's token."""

API: Final = Role(
    name="api",
    requests=(
        *_declare(),
        *_read(EVENTS, PAYLOADS, KEPT, LOGS, _JOBS, _RUNNERS, _PAUSES, _SESSIONS),
        *_api(f"STREAM.MSG.GET.{WORK}"),
        # Its own events, and bars, whose last token is a new one each time. No pattern of NATS matches just these.
        *_publish(event_filter(), payload_subject("*", "*", "*"), kept_subject("*", "*", "*", "*"), _BARRIER),
        *_publish(kv_subject(PAUSES_BUCKET, "*"), kv_subject(SESSIONS_BUCKET, "*")),
        *_api(*(f"STREAM.PURGE.{stream}" for stream in (PAYLOADS, KEPT, LOGS))),
        *_api(f"CONSUMER.CREATE.{_JOBS}", f"CONSUMER.CREATE.{_SESSIONS}"),
        *(Request(f"{_API}CONSUMER.MSG.NEXT.{bucket}.*", many=ANSWERS) for bucket in (_JOBS, _SESSIONS)),
    ),
    hears=(live_filter(), tail_subject("*", "*")),
    tells={"runner": (drain_subject("*"),)},
    answers=True,
    never=tuple(request.subject for request in _events(Started, Launched, Held, Rejected)),
)


def runner(name: str, tokens: Sequence[str] = (ANY,), *, also: Iterable[Request] = ()) -> Role:
    """What a runner may do for the queues with these tokens.

    It may read the events and the output of all queues, because a request for several messages names their subjects in
    its body. It may claim, run and end jobs of its queues only, and read no other payloads.
    """
    return Role(
        name=name,
        requests=(
            *_api(*(f"STREAM.INFO.{stream}" for stream in STREAMS)),
            *_read(EVENTS, LOGS, _IMAGES, _PAUSES),
            *_publish(_BARRIER, kv_subject(RUNNERS_BUCKET, "*"), kv_subject(IMAGES_BUCKET, "*.*")),
            *_events(Rejected, token=BAD_QUEUE_TOKEN),
            *(request for token in tokens for request in _runs(token)),
            *also,
        ),
        hears=[subject for token in tokens for subject in (live_filter(token=token), hint_subject(token))],
        among=[hint_subject(token) for token in tokens],
        tells={"api": [phase_subject(token, "*") for token in tokens]},
    )


def _runs(token: str) -> Iterable[Request]:
    """Take the jobs of a queue, and run them."""
    yield from _events(Started, Launched, Ended, Held, Rejected, token=token)
    yield from _publish(log_subject(token, "*"))
    yield from _api(f"DIRECT.GET.{PAYLOADS}.{payload_subject(token, '*', '*')}")
    yield from _consume(WORK, ANY if token == ANY else consumer_name(token), work_subject(token))


RUNNER: Final = runner("runner", also=_declare())


def named_runner(name: str) -> Role:
    """A runner with a key of its own, which can announce this runner alone."""
    anybody, own = (Request(kv_subject(RUNNERS_BUCKET, who)) for who in ("*", name))
    return replace(RUNNER, requests=[own if request == anybody else request for request in RUNNER.requests])


PROJECTOR: Final = Role(
    name="projector",
    requests=(
        *_declare(),
        *_read(EVENTS, PAYLOADS, WORK, LOGS, _JOBS),
        *_events(Ended),
        *_publish(_BARRIER, kv_subject(JOBS_BUCKET, "*")),
        *_consume(EVENTS, PROJECTOR_DURABLE),
        *_api(f"CONSUMER.UNPIN.{EVENTS}.{PROJECTOR_DURABLE}"),
        *_api(*(f"STREAM.PURGE.{stream}" for stream in (EVENTS, PAYLOADS, LOGS))),
        *_api(f"STREAM.MSG.DELETE.{WORK}", f"STREAM.LEADER.STEPDOWN.{WORK}"),
    ),
)
SERVICES: Final = (API, RUNNER, PROJECTOR)

RUNNERS: Final = "runners/"
"""Prefix of the users that are one runner each, and of their keys' folders."""
SEED_FILE: Final = "STINT_NATS_NKEY"
"""The name of the file with a user's seed, which is that of the setting without `_FILE`."""
OPERATOR: Final = "operator"
"""A user of the streams' own account, who may do everything: `stint rebuild`, repairs, a look around."""


TOLD: Final = (Started, Launched, Ended, Held, Released, Rejected, KillRequested, Deleted)
"""The events that publishers and subscribers may read: all but `submitted`, which holds a job's ticket."""
PUBLISHED: Final = (Submitted, KillRequested)
"""The events that a publisher may write. What they say of who caused them is the publisher's claim."""


def pool(name: str, served: QueuePatterns) -> Role:
    """What the runners of a pool may do, in an account of their own.

    NATS knows whole tokens, and a queue's token encodes its whole name: it can permit single queues, and no patterns.
    With a pattern the users may do what every runner may, and the runners themselves keep to their queues.
    """
    tokens = [ANY] if served.names is None else [queue_token(qname) for qname in served.names]
    return replace(runner(f"pool_{name}", tokens), overhears={API.name: [drain_subject(ANY)]})


def publisher(token: str = "*", *, submit: bool = True, kill: bool = True, read: bool = True) -> Role:
    """What a publisher may do in one queue: submit, ask for a kill, and see what becomes of its jobs.

    It may read only by subject. A request with a body that names subjects could ask for anything: so it gets no
    consumer. What it has not heard of the output it asks the API for, on subjects that name the queue.
    """
    requests: list[Request] = []
    hears: list[str] = []
    tells: list[str] = []
    if submit:
        requests += [*_events(Submitted, token=token), *_publish(payload_subject(token, "*", "*"))]
    if kill:
        requests += _events(KillRequested, token=token)
    if read:
        requests += (Request(f"{_API}DIRECT.GET.{EVENTS}.{event_filter(kind.kind, token)}") for kind in TOLD)
        requests += _api(f"DIRECT.GET.{LOGS}.{log_subject(token, '*')}")
        hears += [*(live_filter(kind.kind, token) for kind in TOLD), tail_subject(token, "*")]
        tells.append(output_subject(token, "*", "*"))
    return Role(name="publishers", requests=requests, hears=hears, tells={API.name: tells})


def merged(roles: Sequence[Role], *, user: str = "") -> Role:
    """What all of these roles may do, in the account of this user or in one that they share."""
    return Role(
        name=roles[0].name,
        user=user,
        requests=[request for role in roles for request in role.requests],
        hears=[subject for role in roles for subject in role.hears],
        tells={name: [told for role in roles for told in role.tells.get(name, ())] for name in roles[0].tells},
    )


def subscriber(name: str) -> Role:
    """What a subscriber may do: take messages from its two consumers, which the operator makes.

    It may not make them itself: who creates a consumer chooses where its messages go, in the streams' own account too.
    """
    return Role(
        name="subscribers",
        user=name,
        requests=[
            request for stream in (EVENTS, LOGS) for request in _take(stream, subscription(name), SUBSCRIBER_ANSWERS)
        ],
    )


ALL_PUBLISHERS: Final = publisher()
PUBLISHERS_ACCOUNT: Final = ALL_PUBLISHERS.account

CALLOUT: Final = "nats-auth"
"""The service that decides publishers' logins, in an account of its own."""
CALLOUT_ACCOUNT: Final = "STINT_NATS_AUTH"
CALLOUT_PERMISSIONS: Final[Mapping[str, Any]] = {
    "publish": {"deny": ">"},
    "subscribe": {"allow": [f"{AUTH_REQUESTS} {AUTH_GROUP}"]},
    "allow_responses": {"max": 1, "expires": "10s"},
}
"""It hears what the server asks, and answers, and nothing else."""
