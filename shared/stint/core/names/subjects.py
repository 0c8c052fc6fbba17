"""Every subject, what builds it and what takes it apart."""

import hashlib
from collections.abc import Collection
from typing import Final, NamedTuple

from stint.core.errors import InvalidJobIdError, InvalidTokenError
from stint.core.names.ids import BAD_QUEUE_TOKEN, check_job_id, queue_name

JS_PREFIX: Final = "JS.stint"
"""The JetStream API in the accounts of the services. The account that has the streams sees `$JS.API`."""

INBOX: Final = "_INBOX"
"""The prefix of the subjects on which clients of NATS receive answers, if they are given no other."""

AUTH_REQUESTS: Final = "$SYS.REQ.USER.AUTH"
"""On which NATS asks about a login that its configuration leaves to a service."""
AUTH_GROUP: Final = "nats-auth"
"""The queue group in which those services listen, so that one of them answers."""
CONNECTIONS: Final = "$SYS.REQ.SERVER.PING.CONNZ"
"""On which each server of NATS answers with its connections. This and the next two are of its system account."""
CONNECTED: Final = "$SYS.ACCOUNT.*.CONNECT"
"""On which it tells that a client has logged in."""
DISCONNECTED: Final = "$SYS.ACCOUNT.*.DISCONNECT"
"""On which it tells that a connection was closed, and what it had sent."""


_UNREADABLE: Final = "rejected"
"""The kind of event that records a submission whose subject names no queue or job."""


class EventAddress(NamedTuple):
    """The parts of an event's subject, `ev.<job_id>.<token>.<kind>`."""

    kind: str
    token: str
    job_id: str

    @property
    def subject(self) -> str:
        """The subject in EVENTS."""
        return f"ev.{self.job_id}.{self.token}.{self.kind}"


def parse_event_subject(subject: str) -> EventAddress:
    """Parse `ev.<job_id>.<token>.<kind>`.

    Raises:
        InvalidTokenError: not four tokens, or the queue token is not canonical. Instead of a queue's token there may be
            `BAD_QUEUE_TOKEN`, in the address of `unreadable_submission` only.
        InvalidJobIdError: the job id is not canonical.
    """
    parts = subject.split(".")
    if len(parts) != 4 or parts[0] not in {"ev", "live"}:  # noqa: PLR2004 - the four tokens of the docstring
        raise InvalidTokenError
    address = event_address(subject)
    if (address.kind, address.token) == (_UNREADABLE, BAD_QUEUE_TOKEN):
        return address
    queue_name(address.token)
    if check_job_id(address.job_id) != address.job_id:
        raise InvalidJobIdError
    return address


def event_address(subject: str) -> EventAddress:
    """The parts of a subject that `event_filter` matches; they need not name a queue or a job."""
    _, job_id, token, kind = subject.split(".")
    return EventAddress(kind, token, job_id)


def names_job(subject: str) -> bool:
    """Whether `parse_event_subject` accepts the subject."""
    try:
        parse_event_subject(subject)
    except (InvalidTokenError, InvalidJobIdError):
        return False
    return True


def event_filter(kind: str = "*", token: str = "*", job_id: str = "*") -> str:
    """A filter over EVENTS."""
    return f"ev.{job_id}.{token}.{kind}"


def is_event(subject: str) -> bool:
    """Whether `event_filter` matches a subject of EVENTS. No filter matches one that was published with a `>`."""
    return subject.startswith("ev.") and ">" not in subject


def live_filter(kind: str = "*", token: str = "*", job_id: str = "*") -> str:
    """A filter over what EVENTS republishes: the messages that the stream accepted, never a refused attempt."""
    return f"live.{job_id}.{token}.{kind}"


def barrier_subject(name: str) -> str:
    """A subject of EVENTS for a message that proves what its leader knows. `name` may be `*`."""
    return f"barrier.{name}"


def unreadable_submission(sequence: int) -> EventAddress:
    """The address that records a message in WORK whose subject names no queue or job, once for each message."""
    digest = hashlib.sha256(b"WORK:%d" % sequence).hexdigest()[:24]
    return EventAddress(_UNREADABLE, BAD_QUEUE_TOKEN, digest)


def payload_subject(token: str, job_id: str, number: int | str, attempt: str = "") -> str:
    """Chunk `number` (from 0) of a job's sealed payload, or a filter over all of its chunks with `>`.

    `*` does not match a message that somebody has published on the subject `pl.<q>.<job>.>` itself.
    """
    return f"pl.{token}.{job_id}.{attempt}{number}"


def kept_subject(token: str, job_id: str, digest: str, number: int | str) -> str:
    """Chunk `number` (from 0) of the copy of a job's sealed payload that has this digest."""
    return f"kp.{token}.{job_id}.{digest}.{number}"


def log_subject(token: str, job_id: str) -> str:
    """The subject of a job's output chunks in LOGS."""
    return f"log.{token}.{job_id}"


def tail_subject(token: str, job_id: str) -> str:
    """The subject on which LOGS republishes a job's output."""
    return f"tail.{token}.{job_id}"


def output_subject(token: str, job_id: str, after: int | str) -> str:
    """The subject on which the API is asked for the next chunk of a job's output behind a sequence of LOGS.

    A queue's token is part of it, so that NATS' permissions can name the queue.
    """
    return f"output.{token}.{job_id}.{after}"


def publisher_inbox(vault_token: str) -> str:
    """The prefix of the inboxes of a publisher with a Vault token: only who has the token can know it."""
    return f"{INBOX}.{hashlib.sha256(vault_token.encode()).hexdigest()[:32]}"


def kick_subject(server: str) -> str:
    """The subject on which a server of NATS is asked to close a connection."""
    return f"$SYS.REQ.SERVER.{server}.KICK"


def phase_subject(token: str, job_id: str) -> str:
    """The subject on which a job's runner says what it does for the job now. No stream has it."""
    return f"phase.{job_id}.{token}"


def drain_subject(runner: str) -> str:
    """The subject on which a runner is told to take no more jobs. No stream has it. `runner` may be `*`."""
    return f"drain.{runner}"


def work_subject(token: str) -> str:
    """The subject in WORK of a queue's submissions, or a filter over all of them with `*`."""
    return f"work.{token}"


def removal_subject(token: str) -> str:
    """The subject on which a projector is asked to remove what a queue's runners acknowledged. `token` may be `*`."""
    return f"removal.{token}"


def consumer_subject(token: str) -> str:
    """The subject on which a projector is asked to make a queue's consumer. No stream has it. `token` may be `*`."""
    return f"consumer.{token}"


def hint_subject(token: str) -> str:
    """The subject of a hint that a queue has work. Hints can be lost; runners also check all queues regularly."""
    return f"hint.{token}"


HINTS: Final = "hint.*"


def token_of(subject: str) -> str:
    """The queue token of a subject of WORK, of a hint, or of a request to a projector. Anybody may have sent it."""
    return subject.partition(".")[2]


def hint_group(patterns: Collection[str]) -> str:
    """The queue group in which runners with these patterns of queues listen to hints, so that each reaches one of them.

    A group for each set of patterns, since a hint is lost with a runner that does not serve the queue.
    """
    pool = "\n".join(sorted(patterns)).encode()
    return f"pool-{hashlib.sha256(pool).hexdigest()[:32]}" if patterns else "runners"


def bar_kind(name: str) -> str:
    """The last part of a bar's subject, `ev.<job_id>.<token>.bar-<name>`; no event has such a kind.

    A bar is a message that says nothing. It is there to be the job's last one, see `stint.ports.EventLog.bar`.
    """
    return f"bar-{name}"


def kv_subject(bucket: str, key: str) -> str:
    """The subject behind a key of a KV bucket."""
    return f"$KV.{bucket}.{key}"


def is_literal(*tokens: str) -> bool:
    """Whether a filter with these tokens matches the subject that they were read from, and no other.

    NATS stores a message that somebody publishes on the subject `log.*.*`. Used as a filter, this subject matches all
    others, so that a purge with it would empty the stream. What is not UTF-8 is read as U+FFFD, and no filter matches
    it.
    """
    return not any(token in {"*", ">"} or "\ufffd" in token for token in tokens)
