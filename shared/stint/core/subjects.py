"""Every name of a stream, subject, bucket, header or label, and nothing else. No other module contains one.

A queue's name can be any text, but a subject's token cannot. `queue_token` maps names to tokens, one to one.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

from stint.core.errors import InvalidJobIdError, InvalidQueueNameError, InvalidTokenError

EVENTS: Final = "EVENTS"
PAYLOADS: Final = "PAYLOADS"
WORK: Final = "WORK"
LOGS: Final = "LOGS"
KEPT: Final = "KEPT"
JOBS_BUCKET: Final = "jobs"
RUNNERS_BUCKET: Final = "runners"
IMAGES_BUCKET: Final = "images"
PAUSES_BUCKET: Final = "pauses"
SESSIONS_BUCKET: Final = "sessions"

PROJECTOR_DURABLE: Final = "projector"

JS_PREFIX: Final = "JS.stint"
"""The JetStream API in the accounts of the services. The account that has the streams sees `$JS.API`."""

AUTH_REQUESTS: Final = "$SYS.REQ.USER.AUTH"
"""On which NATS asks about a login that its configuration leaves to a service."""
AUTH_GROUP: Final = "nats-auth"
"""The queue group in which those services listen, so that one of them answers."""

# Headers of an output chunk (the body is the raw bytes).
CHUNK_NUMBER: Final = "Stint-Chunk"
CHUNK_OFFSET: Final = "Stint-Offset"
CHUNK_STREAM: Final = "Stint-Stream"
CHUNK_DIGEST: Final = "Stint-Digest"
CHUNK_LINE: Final = "Stint-Line"
CHUNK_CONTINUES: Final = "Stint-Continues"  # set if its first byte belongs to a line that began in an earlier chunk

# Labels of a container. `stint.job` distinguishes a job's container from all others.
LABEL_JOB: Final = "stint.job"
LABEL_QUEUE: Final = "stint.queue"
LABEL_RUNNER: Final = "stint.runner"
LABEL_ACK: Final = "stint.ack"
LABEL_ORIGIN: Final = "stint.origin"  # the consumer that the ack subject belongs to
LABEL_TIMEOUT: Final = "stint.timeout"  # seconds that it may run, counted from its start; "0" for no limit
LABEL_MASKED: Final = "stint.mask-secrets"  # set if its output must be masked: the key of its secrets file's HMAC
LABEL_READ_ONLY: Final = "stint.read-only"  # set if an image may exist for this job alone

QUEUE_NAME_MAX_BYTES: Final = 1000
EMPTY_QUEUE_TOKEN: Final = "_"
BAD_QUEUE_TOKEN: Final = "_bad"

_JOB_ID: Final = re.compile(r"[0-9a-fA-F]{24}")


class EventAddress(NamedTuple):
    """The parts of an event's subject, `ev.<job_id>.<token>.<kind>`."""

    kind: str
    token: str
    job_id: str

    @property
    def subject(self) -> str:
        """The subject in EVENTS."""
        return f"ev.{self.job_id}.{self.token}.{self.kind}"


def normalise_queue_name(name: str) -> str:
    """Lower-case a queue name and check it.

    Raises:
        InvalidQueueNameError: over 1000 bytes of UTF-8, a control character, or a lone surrogate.
    """
    lowered = name.lower()
    try:
        encoded = lowered.encode()
    except UnicodeEncodeError:
        raise InvalidQueueNameError("A queue name must be valid Unicode text.") from None
    if len(encoded) > QUEUE_NAME_MAX_BYTES:
        raise InvalidQueueNameError(f"A queue name is at most {QUEUE_NAME_MAX_BYTES} bytes of UTF-8.")
    if any(unicodedata.category(char) == "Cc" for char in lowered):
        raise InvalidQueueNameError("A queue name contains no control characters.")
    return lowered


def queue_token(name: str) -> str:
    """The subject token of a queue name: unpadded lower-case base32 of the lower-cased UTF-8, `_` for "".

    Raises:
        InvalidQueueNameError: the name is not allowed.
    """
    encoded = normalise_queue_name(name).encode()
    return base64.b32encode(encoded).decode().rstrip("=").lower() or EMPTY_QUEUE_TOKEN


@lru_cache(4096)
def queue_name(token: str) -> str:
    """The queue name of a token.

    Raises:
        InvalidTokenError: not the canonical token of any name. (`me`, `mf` and `mg` all decode to `a`: if all were
            accepted, one queue would have three consumers.)
    """
    if token == EMPTY_QUEUE_TOKEN:
        return ""
    try:
        name = base64.b32decode(token.upper() + "=" * (-len(token) % 8)).decode()
        canonical = queue_token(name)
    except (ValueError, InvalidQueueNameError):  # not base32, not even ASCII, not UTF-8, or not allowed
        canonical = name = ""
    if canonical != token:
        raise InvalidTokenError
    return name


def check_job_id(job_id: str) -> str:
    """The id in its canonical form: 24 lower-case hex digits.

    Raises:
        InvalidJobIdError: anything but 24 hex digits of either case.
    """
    if not is_job_id(job_id):
        raise InvalidJobIdError("Invalid job ID (not ObjectIdHex)")
    return job_id.lower()


def is_job_id(text: str) -> bool:
    """Whether `check_job_id` accepts the text."""
    return _JOB_ID.fullmatch(text) is not None


def new_job_id(milliseconds: int, randomness: bytes) -> str:
    """A time-ordered job id: 12 hex digits of Unix milliseconds, 12 of randomness (6 bytes)."""
    return f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}{randomness.hex()}"


def parse_event_subject(subject: str) -> EventAddress:
    """Parse `ev.<job_id>.<token>.<kind>`.

    Raises:
        InvalidTokenError: not four tokens, or the queue token is not canonical.
        InvalidJobIdError: the job id is not canonical.
    """
    parts = subject.split(".")
    if len(parts) != 4 or parts[0] not in {"ev", "live"}:  # noqa: PLR2004 - the four tokens of the docstring
        raise InvalidTokenError
    address = event_address(subject)
    if address.token == BAD_QUEUE_TOKEN:
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


def live_filter(kind: str = "*", token: str = "*", job_id: str = "*") -> str:
    """A filter over what EVENTS republishes: the messages that the stream accepted, never a refused attempt."""
    return f"live.{job_id}.{token}.{kind}"


def barrier_subject(name: str) -> str:
    """A subject of EVENTS for a message that proves what its leader knows. `name` may be `*`."""
    return f"barrier.{name}"


def unreadable_submission(stream: str, sequence: int) -> EventAddress:
    """The address that records a message whose subject names no queue or job, once for each stored message."""
    digest = hashlib.sha256(f"{stream}:{sequence}".encode()).hexdigest()[:24]
    return EventAddress("rejected", BAD_QUEUE_TOKEN, digest)


def payload_subject(token: str, job_id: str, number: int | str, attempt: str = "") -> str:
    """Chunk `number` (from 0) of a job's sealed payload, or a filter over all of its chunks with `*`."""
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


def publisher_inbox(vault_token: str) -> str:
    """The prefix of the inboxes of a publisher with a Vault token: only who has the token can know it."""
    return f"_INBOX.{hashlib.sha256(vault_token.encode()).hexdigest()[:32]}"


def phase_subject(token: str, job_id: str) -> str:
    """The subject on which a job's runner says what it does for the job now. No stream has it."""
    return f"phase.{job_id}.{token}"


def drain_subject(runner: str) -> str:
    """The subject on which a runner is told to take no more jobs. No stream has it. `runner` may be `*`."""
    return f"drain.{runner}"


def work_subject(token: str) -> str:
    """The subject in WORK of a queue's submissions, or a filter over all of them with `*`."""
    return f"work.{token}"


def hint_subject(token: str) -> str:
    """The subject of a hint that a queue has work. Hints can be lost; runners also check all queues regularly."""
    return f"hint.{token}"


HINTS: Final = "hint.*"


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


def hinted_token(subject: str) -> str:
    """The queue token of a hint."""
    return subject.split(".")[1]


def consumer_name(token: str) -> str:
    """The durable consumer of a queue. Hashed: a durable name has at most 255 bytes, a token up to 1600."""
    return "q-" + hashlib.sha256(token.encode()).hexdigest()[:32]


def subscription(name: str) -> str:
    """The durable consumers of a subscriber: one on EVENTS, one on LOGS."""
    return f"sub-{name}"


def kv_subject(bucket: str, key: str) -> str:
    """The subject behind a key of a KV bucket."""
    return f"$KV.{bucket}.{key}"


def image_key(engine_id: str, image_id: str) -> str:
    """The key of an image in the bucket `images`."""
    return f"{_key_part(engine_id)}.{_key_part(image_id)}"


def images_of(engine_id: str) -> str:
    """A filter over the keys of an engine's images."""
    return f"{_key_part(engine_id)}.*"


def _key_part(text: str) -> str:
    """Both ids have characters that a key cannot have: `sha256:…`, and of older engines `ABCD:EFGH:…`."""
    return re.sub("[^A-Za-z0-9_-]", "-", text)


def kv_stream(bucket: str) -> str:
    """The stream behind a KV bucket."""
    return f"KV_{bucket}"
