"""Subjects, and the headers of messages as NATS stores them: the subject in the first line."""

import base64
from typing import Any

from nats.aio.msg import Msg

from stint.core.audit.signature import verified_signer
from stint.core.errors import InvalidJobIdError, InvalidQueueNameError, InvalidTokenError
from stint.core.names.headers import SIGNATURE
from stint.core.names.ids import queue_name, queue_token
from stint.core.names.subjects import names_job, parse_event_subject
from stint.jetstream.wire.protocol import raw_message, records, status_of
from tests.fuzz.target import Target


def check(data: bytes, _servers: Any) -> None:
    """A subject names one queue in one way, or none; no header can stop a reader."""
    first, _, headers = data.partition(b"\n")
    subject = first.decode("utf-8", "replace")
    try:
        address = parse_event_subject(subject)
        assert names_job(subject)
        assert address.subject == subject.replace("live.", "ev.", 1)
    except (InvalidTokenError, InvalidJobIdError):
        assert not names_job(subject)
    try:
        token = queue_token(subject)
        assert queue_name(token) == subject.lower()
        assert not set(token) & set(".*> \r\n")
    except InvalidQueueNameError:
        pass
    stored = {"subject": subject, "seq": 7, "time": "2026-01-02T03:04:05Z", "data": ""}
    message = raw_message({**stored, "hdrs": base64.b64encode(headers).decode()})
    assert message.headers["Nats-Sequence"] == "7", "the stream's word counts, not the publisher's"
    list(records([message]))
    assert not verified_signer(message.headers.get(SIGNATURE, ""), subject, b""), "nobody has signed it"
    status_of(Msg(None, subject=subject, data=b"", headers=dict(message.headers)))  # type: ignore[arg-type] # no client


TARGET = Target(
    name="subjects",
    check=check,
    words=[
        b"NATS/1.0\r\n", b"Nats-Sequence: 9\r\n", b"Stint-Signature: ", b"U" + b"A" * 55 + b"." + b"A" * 86,
        b": ", b"\r\n", b".", b"*", b">", b"\xc4\xb0", b"\0", b"=?utf-8?q?",
    ],
)  # fmt: skip
