"""The contract of the bus: an AsyncAPI 3 document of the subjects, headers and messages, made from the events."""

import inspect
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stint.core.audit.signature import SIGNATURE_PATTERN
from stint.core.events import EVENT_TYPES, PUBLISHED, AnyEvent
from stint.core.names import headers, subjects

Json = dict[str, Any]

ABOUT: Final = """\
Messages on NATS by which jobs are submitted, and by which everybody is told what becomes of them.

A publisher publishes the sealed payload, then `submitted`; both with an acknowledgement. Whoever wants to know what
becomes of a job listens on `live.`, which carries what the stream accepted, or reads a job's event from the stream
EVENTS by its subject. A subscriber takes the events and the output of its queues from two consumers, and misses
nothing.

What may change in a later version: new kinds of events, new fields, new headers and new words of a status or a reason.
Readers ignore what they do not know. A field keeps its name, its type and its meaning; one that is absent has its
default. `v` counts shapes that would break this.

In terms of CloudEvents, `event_id` is the `id`, `type` the `type`, and `at` the `time`; `source` is
`/stint/queues/<queue>` and `subject` the job's id, both from the NATS subject. Services with STINT_CLOUDEVENTS=on store
what they write with these as headers.
"""
_QUEUE: Final = "The queue's token: unpadded lower-case base32 of its lower-cased name, `_` for the empty name."
_JOB: Final = "The job's id: 24 lower-case hex digits, chosen by whoever submits it."
_DIGEST: Final = "SHA-256, in hex, of the previous chunk's digest (in hex, nothing for the first) followed by the body."
_PUBLISHED: Final = tuple(shape.kind for shape in PUBLISHED)
_SIGNED: Final[Mapping[str, Any]] = {
    headers.SIGNATURE: {
        "type": "string",
        "pattern": SIGNATURE_PATTERN,
        "description": "Proves who published it: a public nkey, a point, and in unpadded base64url its signature of "
        "the byte FF, `stint-signature-1`, a line feed, the subject on `ev.`, a line feed, and the body.",
    }
}
_CLOUDEVENT: Final[Mapping[str, Any]] = {
    name: {"type": "string", "description": f"Only with STINT_CLOUDEVENTS=on: {text}"}
    for name, text in {
        headers.CE_SPECVERSION: "`1.0`.",
        headers.CE_ID: "the `event_id`.",
        headers.CE_SOURCE: "`/stint/queues/` and the queue's token.",
        headers.CE_TYPE: "the `type`.",
        headers.CE_TIME: "the time `at`.",
        headers.CE_SUBJECT: "the job's id.",
        headers.CE_DATACONTENTTYPE: "`application/json`.",
    }.items()
}
_AFTER: Final = "A sequence of LOGS, 0 for the first chunk: the answer is the job's next chunk behind it."
_BASE: Final[Mapping[str, Any]] = {
    "event_id": "0f8fad5bd9cb469fa165708673955bb1",
    "at": "2026-01-01T12:00:00.000Z",
    "by": "token-ci",
}
_OWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "submitted": {
        "qname": "deploys",
        "ticket": "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM96XVZ",
        "payload_chunks": 1,
        "payload_bytes": 4096,
        "on_lost": "hold",
    },
    "started": {"runner": "runner-1", "payload_sha256": "60303ae2" * 8},
    "launched": {
        "container_id": "4f5c" * 16,
        "container_image": "busybox",
        "image_id": f"sha256:{'1f3b' * 16}",
        "secrets": {"kv/data/demo.password": 7},
    },
    "ended": {
        "status": "failed",
        "reason": "exit_code",
        "return_code": 3,
        "container_image": "busybox",
        "chunks": 2,
        "output_bytes": 8192,
        "output_digest": "9f86d081" * 8,
        "output_complete": True,
    },
    "held": {"runner": "runner-1"},
    "rejected": {"error": "The payload does not match its ticket."},
}


def examples() -> Mapping[str, AnyEvent]:
    """An event of each kind."""
    return {kind: shape(**_BASE, **_OWN.get(kind, {})) for kind, shape in EVENT_TYPES.items()}


def asyncapi(version: str) -> Json:
    """The document; `version` is that of the software it describes."""
    shapes = tuple(EVENT_TYPES.values())
    _, schemas = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    for shape in shapes:
        schemas[shape.__name__]["description"] = inspect.cleandoc(shape.__doc__ or "").partition("\n\n")[0]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Stint on NATS", "version": version, "description": ABOUT},
        "defaultContentType": "application/json",
        "channels": {
            **{kind: _channel(subjects.EventAddress(kind, "{queue}", "{job}").subject, kind) for kind in EVENT_TYPES},
            **{f"live_{kind}": _channel(subjects.live_filter(kind, "{queue}", "{job}"), kind) for kind in EVENT_TYPES},
            "payload": _channel(subjects.payload_subject("{queue}", "{job}", "{number}"), "payload", number="From 0."),
            "output": _channel(subjects.log_subject("{queue}", "{job}"), "output"),
            "tail": _channel(subjects.tail_subject("{queue}", "{job}"), "output"),
            "output_request": _channel(
                subjects.output_subject("{queue}", "{job}", "{after}"), "output_request", after=_AFTER
            ),
            "output_answer": {"address": None, "messages": {"output": {"$ref": "#/components/messages/output"}}},
        },
        "operations": {
            **{f"publish_{name}": _operation("send", name) for name in ("payload", *_PUBLISHED)},
            **{f"hear_{kind}": _operation("receive", f"live_{kind}") for kind in EVENT_TYPES if kind != "submitted"},
            "hear_output": _operation("receive", "tail"),
            "read_output": {
                **_operation("send", "output_request"),
                "reply": {"channel": {"$ref": "#/channels/output_answer"}},
            },
        },
        "components": {
            "messages": {**{kind: _message(event) for kind, event in examples().items()}, **_bytes()},
            "messageTraits": {"cloudevent": {"headers": {"type": "object", "properties": _CLOUDEVENT}}},
            "schemas": schemas,
        },
    }


def _channel(address: str, message: str, **parameters: str) -> Json:
    described = {"job": _JOB, "queue": _QUEUE, **parameters}
    return {
        "address": address,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "parameters": {name: {"description": text} for name, text in described.items()},
    }


def _operation(action: str, channel: str) -> Json:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _message(event: AnyEvent) -> Json:
    name = type(event).__name__
    return {
        "name": event.kind,
        "traits": [{"$ref": "#/components/messageTraits/cloudevent"}],
        **({"headers": {"type": "object", "properties": _SIGNED}} if event.kind in _PUBLISHED else {}),
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "examples": [{"payload": msgspec.to_builtins(event)}],
    }


def _bytes() -> Json:
    numbers = {"type": "string", "pattern": "^[0-9]+$"}
    described = {
        headers.CHUNK_NUMBER: {**numbers, "description": "Its number, from 1."},
        headers.CHUNK_OFFSET: {**numbers, "description": "Bytes of output before it."},
        headers.CHUNK_STREAM: {
            "type": "string",
            "enum": ["stdout", "stderr", "tty"],
            "description": "Where the job wrote it.",
        },
        headers.CHUNK_DIGEST: {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": _DIGEST},
        headers.CHUNK_LINE: {
            **numbers,
            "description": "Number of the first line that begins in it, or would if one did.",
        },
        headers.CHUNK_CONTINUES: {"const": "1", "description": "Its first byte belongs to a line that began earlier."},
        headers.SEQUENCE: {**numbers, "description": "Its sequence in LOGS, on `tail.` and in answers."},
        headers.TIME: {"type": "string", "description": "When LOGS stored it, on `tail.` and in answers."},
        headers.REFUSED: {"type": "string", "description": "Only in an answer that is no chunk: why there is none."},
    }
    binary = {"type": "string", "format": "binary"}
    return {
        "payload": {
            "contentType": "text/plain",
            "payload": {"type": "string", "description": "A part of the transit ciphertext of the job, in order."},
        },
        "output_request": {
            "payload": {"type": "string", "maxLength": 0, "description": "Empty: the subject says everything."}
        },
        "output": {
            "contentType": "application/octet-stream",
            "headers": {"type": "object", "properties": described},
            "payload": binary,
        },
    }
