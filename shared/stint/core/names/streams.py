"""The names of streams, buckets and consumers, and the keys in buckets."""

import hashlib
import re
from typing import Final

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
SIGNERS_BUCKET: Final = "signers"

PROJECTOR_DURABLE: Final = "projector"


def consumer_name(token: str) -> str:
    """The durable consumer of a queue. Hashed: a durable name has at most 255 bytes, a token up to 1600."""
    return "q-" + hashlib.sha256(token.encode()).hexdigest()[:32]


def subscription(name: str) -> str:
    """The durable consumers of a subscriber: one on EVENTS, one on LOGS."""
    return f"sub-{name}"


def image_key(engine_id: str, image_id: str) -> str:
    """The key of an image in the bucket `images`."""
    return f"{_key_part(engine_id)}.{_key_part(image_id)}"


def images_of(engine_id: str) -> str:
    """A filter over the keys of an engine's images."""
    return f"{_key_part(engine_id)}.*"


def api_signer_key(nkey: str) -> str:
    """The key in the bucket `signers` of an nkey with which an API signs; with `*` a filter over all of them.

    Whose the other nkeys are stands there under the nkey alone. So NATS can let others write the ones and the others.
    """
    return f"api.{nkey}"


def _key_part(text: str) -> str:
    """Both ids have characters that a key cannot have: `sha256:…`, and of older engines `ABCD:EFGH:…`."""
    return re.sub("[^A-Za-z0-9_-]", "-", text)


def kv_stream(bucket: str) -> str:
    """The stream behind a KV bucket."""
    return f"KV_{bucket}"
