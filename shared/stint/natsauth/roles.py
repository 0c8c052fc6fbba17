"""What each role may publish, request and hear. This is the only list of NATS permissions.

Lists of subjects within one account are no boundary: nobody checks the reply subject of a publish, so the answer of a
stream can be directed into any other stream. So the streams have an account of their own, each role has another one,
and only these subjects are passed on between them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from stint.core.events import Deleted, Ended, Held, KillRequested, Launched, Rejected, Released, Started, Submitted
from stint.core.names.ids import BAD_QUEUE_TOKEN
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
    SIGNERS_BUCKET,
    WORK,
    api_signer_key,
    consumer_name,
    subscription,
)
from stint.core.names.subjects import (
    AUTH_GROUP,
    AUTH_REQUESTS,
    CONNECTED,
    CONNECTIONS,
    DISCONNECTED,
    HINTS,
    barrier_subject,
    consumer_subject,
    drain_subject,
    event_filter,
    hint_subject,
    kept_subject,
    kick_subject,
    kv_subject,
    live_filter,
    log_subject,
    output_subject,
    payload_subject,
    phase_subject,
    removal_subject,
    tail_subject,
    work_subject,
)
from stint.natsauth.requests import (
    ANSWERS,
    CALLS,
    IMAGES,
    JOBS,
    PAUSES,
    RUNNERS_STREAM,
    SESSIONS,
    SIGNERS,
    STREAMS,
    SUBSCRIBER_ANSWERS,
    Request,
    Role,
    may_append,
    may_call,
    may_declare,
    may_publish,
    may_read,
    may_take,
)

_BARRIER: Final = barrier_subject("*")
_MAKES_CONSUMERS: Final = f"CONSUMER.CREATE.{WORK}.*.{work_subject('*')}"
"""The call that creates or changes a queue's consumer. Its body may name any subject as that of the deliveries."""

API: Final = Role(
    name="api",
    requests=(
        *may_declare(),
        *may_read(EVENTS, PAYLOADS, KEPT, LOGS, JOBS, RUNNERS_STREAM, PAUSES, SESSIONS, SIGNERS),
        *may_call(f"STREAM.MSG.GET.{WORK}"),
        # Its own events, and bars, whose last token is a new one each time. No pattern of NATS matches just these.
        *may_publish(event_filter(), payload_subject("*", "*", "*"), kept_subject("*", "*", "*", "*"), _BARRIER),
        *may_publish(kv_subject(PAUSES_BUCKET, "*"), kv_subject(SESSIONS_BUCKET, "*")),
        *may_publish(kv_subject(SIGNERS_BUCKET, api_signer_key("*"))),
        *may_call(*(f"STREAM.PURGE.{stream}" for stream in (PAYLOADS, KEPT, LOGS))),
        *may_call(f"CONSUMER.CREATE.{JOBS}", f"CONSUMER.CREATE.{SESSIONS}"),
        *(Request(f"{CALLS}CONSUMER.MSG.NEXT.{bucket}.*", many=ANSWERS) for bucket in (JOBS, SESSIONS)),
    ),
    hears=(live_filter(), tail_subject("*", "*")),
    tells={"runner": (drain_subject("*"),)},
    answers=True,
    never=tuple(request.subject for request in may_append(Started, Launched, Held, Rejected)),
)


def runner(name: str, tokens: Sequence[str] = ("*",), *, also: Iterable[Request] = ()) -> Role:
    """What a runner may do for the queues with these tokens.

    It may read the events and the output of all queues, because a request for several messages names their subjects in
    its body. It may claim, run and end jobs of its queues only, and read no other payloads. It asks a projector for
    its queues' consumers: who creates one chooses where its messages go, in the streams' account too.
    """
    return Role(
        name=name,
        requests=(
            *may_call(*(f"STREAM.INFO.{stream}" for stream in STREAMS)),
            *may_read(EVENTS, LOGS, IMAGES, PAUSES),
            *may_publish(_BARRIER, kv_subject(RUNNERS_BUCKET, "*"), kv_subject(IMAGES_BUCKET, "*.*")),
            *may_append(Rejected, token=BAD_QUEUE_TOKEN),
            *(request for token in tokens for request in _runs(token)),
            *also,
        ),
        hears=[subject for token in tokens for subject in (live_filter(token=token), hint_subject(token))],
        among=[hint_subject(token) for token in tokens],
        tells={
            "api": [phase_subject(token, "*") for token in tokens],
            "projector": [*map(removal_subject, tokens), *map(consumer_subject, tokens)],
        },
    )


def _runs(token: str) -> Iterable[Request]:
    yield from may_append(Started, Launched, Ended, Held, Rejected, token=token)
    yield from may_publish(log_subject(token, "*"))
    yield from may_call(f"DIRECT.GET.{PAYLOADS}.{payload_subject(token, '*', '*')}")
    yield from may_take(WORK, "*" if token == "*" else consumer_name(token))


RUNNER: Final = runner("runner", also=(*may_declare(), *may_call(f"STREAM.MSG.DELETE.{WORK}", _MAKES_CONSUMERS)))


def named_runner(name: str) -> Role:
    """A runner with a key of its own, which can announce this runner alone."""
    anybody, own = (Request(kv_subject(RUNNERS_BUCKET, who)) for who in ("*", name))
    return replace(RUNNER, requests=[own if request == anybody else request for request in RUNNER.requests])


PROJECTOR: Final = Role(
    name="projector",
    requests=(
        *may_declare(),
        *may_read(EVENTS, PAYLOADS, WORK, LOGS, JOBS),
        *may_append(Ended),
        *may_publish(_BARRIER, kv_subject(JOBS_BUCKET, "*")),
        *may_call(f"CONSUMER.CREATE.{EVENTS}.{PROJECTOR_DURABLE}"),
        *may_take(EVENTS, PROJECTOR_DURABLE),
        *may_call(f"CONSUMER.INFO.{WORK}.*", _MAKES_CONSUMERS),
        *may_call(f"CONSUMER.UNPIN.{EVENTS}.{PROJECTOR_DURABLE}"),
        *may_call(*(f"STREAM.PURGE.{stream}" for stream in (EVENTS, PAYLOADS, LOGS))),
        *may_call(f"STREAM.MSG.DELETE.{WORK}", f"STREAM.LEADER.STEPDOWN.{WORK}", f"STREAM.UPDATE.{WORK}"),
    ),
    answers=True,
)
SERVICES: Final = (API, RUNNER, PROJECTOR)

RUNNERS: Final = "runners/"  # prefix of the users that are one runner each, and of their keys' folders
SEED_FILE: Final = "STINT_NATS_NKEY"  # the file with a user's seed, called as the setting without `_FILE`
OPERATOR: Final = "operator"  # a user of the streams' own account, who may do everything: `stint rebuild`, repairs


def pool(name: str, tokens: Sequence[str] = ("*",)) -> Role:
    """What the runners of a pool may do, in an account of their own, for the queues with these tokens."""
    return replace(runner(f"pool_{name}", tokens), overhears={API.name: [drain_subject("*")]})


def pool_with_jobs(name: str, tokens: Sequence[str]) -> Role:
    """The same if its queues are a pattern, and those with these tokens have jobs now.

    It hears hints of all queues, and so learns of a new one, for which it must log in again.
    """
    hears = [HINTS, *(live_filter(token=token) for token in tokens)]
    return replace(pool(name, tokens), hears=hears, among=[HINTS])


CALLOUT: Final = "nats-auth"  # the service that decides publishers' logins, in an account of its own
CALLOUT_ROLE: Final = Role(
    name="nats_auth",
    requests=(
        *may_publish(kv_subject(SIGNERS_BUCKET, "*")),
        *may_call(f"STREAM.MSG.GET.{SIGNERS}", f"CONSUMER.LIST.{WORK}"),
        *may_call(*(f"STREAM.INFO.{stream}" for stream in (EVENTS, PAYLOADS, WORK))),
    ),
    answers=True,
)
"""It alone writes down whose key a publisher's is, and cannot write down a key as one of an API. It sees how much is
stored of what publishers send, and which queues have jobs."""
LOGINS: Final = f"{AUTH_REQUESTS} {AUTH_GROUP}"  # it hears this, too: what servers ask of logins, in a queue group
CALLOUT_OF_SYSTEM: Final = Role(
    name=CALLOUT_ROLE.name,
    requests=(Request(CONNECTIONS, many=ANSWERS), Request(kick_subject("*"))),
    hears=(CONNECTED, DISCONNECTED),
)
"""What it may do in the system account of NATS, which knows all connections."""

# --- users outside of Stint: publishers and subscribers --------------------------------------------------------------

TOLD: Final = (Started, Launched, Ended, Held, Released, Rejected, KillRequested, Deleted)
"""The events that publishers and subscribers may read: all but `submitted`, which holds a job's ticket."""


def publisher(token: str = "*", *, submit: bool = True, kill: bool = True, read: bool = True) -> Role:
    """What a publisher may do in one queue: submit, ask for a kill, and see what becomes of its jobs.

    It may read only by subject. A request with a body that names subjects could ask for anything: so it gets no
    consumer. What it has not heard of the output it asks the API for, on subjects that name the queue.
    """
    requests: list[Request] = []
    hears: list[str] = []
    tells: list[str] = []
    if submit:
        requests += [*may_append(Submitted, token=token), *may_publish(payload_subject(token, "*", "*"))]
    if kill:
        requests += may_append(KillRequested, token=token)
    if read:
        requests += (Request(f"{CALLS}DIRECT.GET.{EVENTS}.{event_filter(kind.kind, token)}") for kind in TOLD)
        requests += may_call(f"DIRECT.GET.{LOGS}.{log_subject(token, '*')}")
        hears += [*(live_filter(kind.kind, token) for kind in TOLD), tail_subject(token, "*")]
        tells.append(output_subject(token, "*", "*"))
    return Role(name="publishers", requests=requests, hears=hears, tells={API.name: tells})


def subscriber(name: str) -> Role:
    """What a subscriber may do: take messages from its two consumers, which the operator makes.

    It may not make them itself: who creates a consumer chooses where its messages go, in the streams' own account too.
    """
    return Role(
        name="subscribers",
        user=name,
        requests=[
            request for stream in (EVENTS, LOGS) for request in may_take(stream, subscription(name), SUBSCRIBER_ANSWERS)
        ],
    )


ALL_PUBLISHERS: Final = publisher()
