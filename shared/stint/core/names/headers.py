"""The names of a message's headers and of a container's labels."""

from typing import Final

# Headers of an output chunk (the body is the raw bytes).
CHUNK_NUMBER: Final = "Stint-Chunk"
CHUNK_OFFSET: Final = "Stint-Offset"
CHUNK_STREAM: Final = "Stint-Stream"
CHUNK_DIGEST: Final = "Stint-Digest"
CHUNK_LINE: Final = "Stint-Line"
CHUNK_CONTINUES: Final = "Stint-Continues"  # set if its first byte belongs to a line that began in an earlier chunk

REFUSED: Final = "Stint-Error"
"""The header of an answer that is no chunk: a sentence that says why."""

SIGNATURE: Final = "Stint-Signature"
"""The header of an event with its publisher's signature, see `stint.core.audit.signature`."""

# Headers of an event as a CloudEvent.
CE_SPECVERSION: Final = "ce-specversion"
CE_ID: Final = "ce-id"
CE_SOURCE: Final = "ce-source"
CE_TYPE: Final = "ce-type"
CE_TIME: Final = "ce-time"
CE_SUBJECT: Final = "ce-subject"
CE_DATACONTENTTYPE: Final = "ce-datacontenttype"

# Headers of NATS' own.
SUBJECT: Final = "Nats-Subject"
TIME: Final = "Nats-Time-Stamp"
SEQUENCE: Final = "Nats-Sequence"
PENDING: Final = "Nats-Num-Pending"  # how many messages follow those of an answer
SOURCE: Final = "Nats-Stream-Source"
"""Set by the server on messages that it reads from a stream; it overwrites a publisher's own header."""
MARKER: Final = "Nats-Marker-Reason"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
PIN: Final = "Nats-Pin-Id"
SERVER_KEY: Final = "Nats-Server-Xkey"

# Labels of a container. `stint.job` distinguishes a job's container from all others.
LABEL_JOB: Final = "stint.job"
LABEL_QUEUE: Final = "stint.queue"
LABEL_RUNNER: Final = "stint.runner"
LABEL_ACK: Final = "stint.ack"
LABEL_ORIGIN: Final = "stint.origin"  # the consumer that the ack subject belongs to
LABEL_TIMEOUT: Final = "stint.timeout"  # seconds that it may run, counted from its start; "0" for no limit
LABEL_MASKED: Final = "stint.mask-secrets"  # set if its output must be masked: the key of its secrets file's HMAC
LABEL_READ_ONLY: Final = "stint.read-only"  # set if an image may exist for this job alone
