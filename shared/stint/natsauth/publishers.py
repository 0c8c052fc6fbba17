"""What publishers and subscribers may publish, request and hear: users of NATS outside of Stint. See `roles.py`."""

from typing import Final

from stint.core.events import Deleted, Ended, Held, KillRequested, Launched, Rejected, Released, Started, Submitted
from stint.core.names.streams import EVENTS, LOGS, subscription
from stint.core.names.subjects import (
    event_filter,
    live_filter,
    log_subject,
    output_subject,
    payload_subject,
    tail_subject,
)
from stint.natsauth.requests import (
    CALLS,
    SUBSCRIBER_ANSWERS,
    Request,
    Role,
    may_append,
    may_call,
    may_publish,
    may_take,
)
from stint.natsauth.roles import API

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
