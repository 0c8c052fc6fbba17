"""The events of a job, in the past tense. Each kind occurs at most once in a job.

They are stored as JSON objects with a `type`; readers ignore fields that they do not know. `at` and `by` are the
writer's claims: the time and the order that count are the stream's.
"""

from typing import Annotated, ClassVar, Final, get_args

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""What tables hold and figures are made of. In JSON a number can have thousands of digits."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """The fields of every event.

    Attributes:
        event_id: the writer's own id of this event; after an append without an answer it tells whose event was stored.
        at: when it happened according to the writer, RFC 3339 in UTC.
        by: who wrote it: a runner's id, or a Vault token's display name, which need not be unique.
        by_entity: id of the identity behind that token, "" if there is none.
        by_accessor: that token's accessor, "" if it has none.
        by_address: the address from which the API got the request, "" if it is not recorded. Personal data.
        by_nats_user: a direct publisher's public nkey, as it says itself.
        v: version of this shape.
    """

    kind: ClassVar[str]

    event_id: str
    at: str
    by: str = ""
    by_entity: str = ""
    by_accessor: str = ""
    by_address: str = ""
    by_nats_user: str = ""
    v: int = 1


class Submitted(Event, frozen=True, kw_only=True, tag="submitted"):
    """A sealed job was submitted. Its payload is in PAYLOADS before this event is appended.

    Attributes:
        qname: the queue's name, lower-cased; must be that of the subject.
        ticket: transit ciphertext under the bus key, bound to queue and job (see `stint.vault.ticket`).
        payload_chunks: how many chunks the payload has, from 1.
        payload_bytes: its size in bytes.
        container_image: the image if the request was not sealed; otherwise it is known once the payload is opened.
        tty: whether the job has a terminal; known as above.
        payload_try: prefix of the payload's chunk numbers, "" for none. A submission that may be repeated
            seals its payload anew each time, and must not run with the chunks of an earlier attempt.
        request_digest: hex SHA-256 of a request with an Idempotency-Key, which identifies a repeated request.
        on_lost: what the queue does if the job's runner is lost, "" for the server's default.
        payload_digest: hex SHA-256 of the sealed payload if a copy is kept for reruns, "" if none is.
        rerun_of: id of the job whose payload this one runs again, "" if none.
    """

    kind: ClassVar[str] = "submitted"

    qname: str
    ticket: str
    payload_chunks: int
    payload_bytes: int
    container_image: str = ""
    tty: bool = False
    payload_try: str = ""
    request_digest: str = ""
    on_lost: str = ""
    payload_digest: str = ""
    rerun_of: str = ""


class KillRequested(Event, frozen=True, kw_only=True, tag="kill_requested"):
    """Somebody asked for the job to be stopped."""

    kind: ClassVar[str] = "kill_requested"


class Started(Event, frozen=True, kw_only=True, tag="started"):
    """A runner claimed the job. From now on the job cannot return to its queue.

    Attributes:
        runner: the runner's id.
        kill_grace: seconds from SIGTERM to SIGKILL when somebody kills the job, 0 if it is not known.
        payload_sha256: hex digest of the sealed payload that the runner has read and compared with the ticket.
        lease: L of the runner, in seconds; 0 if it is not known.
    """

    kind: ClassVar[str] = "started"

    runner: str
    kill_grace: float = 0.0
    payload_sha256: str = ""
    lease: float = 0.0


class Launched(Event, frozen=True, kw_only=True, tag="launched"):
    """The job's container exists.

    Attributes:
        container_id: the engine's id, 64 hex digits.
        container_image: the image as the payload named it.
        tty: whether the output is one terminal stream.
        image_id: the engine's id of the image, the digest of its content; "" if the engine did not say.
        secrets: the secrets in it as `path.key`, each with the version of KV v2 that was read; null from other engines.
        secrets_left_out: how many more it has, which are not named because there are so many.
    """

    kind: ClassVar[str] = "launched"

    container_id: str
    container_image: str
    tty: bool = False
    image_id: str = ""
    secrets: dict[str, int | None] = {}
    secrets_left_out: int = 0


class Ended(Event, frozen=True, kw_only=True, tag="ended"):
    """The job is over.

    Attributes:
        status: `success`, `failed`, `notauthorised` or `unknown`.
        reason: one word: `exit_code`, `killed`, `timeout`, `oom`, `image`, `content`, `secrets`, `payload`,
            `container`, `lost`, `internal`; "" on success.
        error: a sentence for the person who submitted it, "" if the command ran, unless it timed out or its end is not
            known. Never a secret.
        return_code: the command's exit status, 0 if none ran.
        container_image: the image as the payload named it, if it was known.
        chunks: number of output chunks in LOGS.
        output_bytes: total size of the chunks.
        output_digest: hex chain digest of the last chunk, "" without output.
        output_complete: the chunks are known to be everything that the container wrote, up to the limit. Never
            assumed. Always written, because readers of an earlier version take its absence for true.
        output_truncated: the job wrote more than is kept.
        output_masked: how many secret values were replaced in the output.
    """

    kind: ClassVar[str] = "ended"

    status: str
    reason: str = ""
    error: str = ""
    return_code: Int64 = 0
    container_image: str = ""
    chunks: Int64 = 0
    output_bytes: Int64 = 0
    output_digest: str = ""
    output_complete: bool = msgspec.field(default_factory=bool)
    output_truncated: bool = False
    output_masked: Int64 = 0


class Held(Event, frozen=True, kw_only=True, tag="held"):
    """The job's runner was lost, and its queue waits for that runner or for an operator.

    Attributes:
        runner: the runner that was lost.
    """

    kind: ClassVar[str] = "held"

    runner: str


class Released(Event, frozen=True, kw_only=True, tag="released"):
    """An operator gave up the lost runner, so that the queue continues. Appended together with the job's end."""

    kind: ClassVar[str] = "released"


class Rejected(Event, frozen=True, kw_only=True, tag="rejected"):
    """The message on the subject `submitted` is malformed, so that it can never run.

    Attributes:
        error: a sentence that says why.
    """

    kind: ClassVar[str] = "rejected"

    error: str


class Deleted(Event, frozen=True, kw_only=True, tag="deleted"):
    """The job was deleted: it never runs, and it is no longer shown."""

    kind: ClassVar[str] = "deleted"


AnyEvent = Submitted | KillRequested | Started | Launched | Held | Released | Ended | Rejected | Deleted

EVENT_TYPES: Final[dict[str, type[AnyEvent]]] = {cls.kind: cls for cls in get_args(AnyEvent)}

ACTIONS: Final = frozenset(EVENT_TYPES) - {cls.kind for cls in (Started, Launched, Held, Ended, Rejected)}
"""Kinds that somebody outside of Stint causes. The others are the services' own."""

PUBLISHED: Final = (Submitted, KillRequested)
"""The events that a publisher may write. What they say of who caused them is the publisher's claim; its signature, if
there is one, is proof (see `stint.core.audit.signature`)."""

EVENT_BYTES: Final = 64 * 1024
"""Bytes of an event with its headers, as NATS enforces it. The largest that a service writes has 16 KiB of secrets'
names, or two texts of `TEXT_LENGTH`: 48 KiB if JSON escapes all of their characters."""
TEXT_LENGTH: Final = 4096
"""Characters of an image's name, and of an error, in an event."""
NAME_LENGTH: Final = 256
"""Characters of a writer's name that views, audit and receipts keep: a direct publisher can fill an event with it."""


class Writer(msgspec.Struct, frozen=True):
    """Who wrote an event: as the event says, or as it is proven."""

    who: str
    entity: str
    accessor: str
    nats_user: str


def writer_of(event: msgspec.Struct | None) -> Writer:
    """Who wrote an event, as it says itself."""
    names = ("by", "by_entity", "by_accessor", "by_nats_user")
    return Writer(*(getattr(event, name, "")[:NAME_LENGTH] for name in names))


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A message of EVENTS as the stream stores it.

    Attributes:
        sequence: the stream's sequence.
        time: the stream's time, RFC 3339 in UTC.
        kind: from the subject.
        token: the queue's token, from the subject; of what is done to a runner `FLEET_TOKEN`.
        job_id: from the subject; of what is done to a queue or a runner an id of its own.
        event: the event, None if the bytes are not an event of this kind.
        signer: the public nkey that the message's signature names, which is not verified; "" if it has none.
    """

    sequence: int
    time: str
    kind: str
    token: str
    job_id: str
    event: Event | None
    signer: str = ""
