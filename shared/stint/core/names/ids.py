"""Names of queues and ids of jobs, and the tokens of subjects that stand for them.

A queue's name can be any text, but a subject's token cannot. `queue_token` maps names to tokens, one to one.
"""

import base64
import re
import unicodedata
from functools import lru_cache
from typing import Final

from stint.core.errors import InvalidJobIdError, InvalidQueueNameError, InvalidTokenError

QUEUE_NAME_MAX_BYTES: Final = 1000
EMPTY_QUEUE_TOKEN: Final = "_"
BAD_QUEUE_TOKEN: Final = "_bad"
FLEET_TOKEN: Final = "_fleet"
"""In place of a queue's token: what is done to runners. No name has this token."""

_JOB_ID: Final = re.compile(r"[0-9a-fA-F]{24}")


def normalise_queue_name(name: str) -> str:
    """Lower-case a queue name. Raises InvalidQueueNameError if too long, or with an invalid or control character."""
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

    Raises InvalidQueueNameError as `normalise_queue_name` does.
    """
    encoded = normalise_queue_name(name).encode()
    return base64.b32encode(encoded).decode().rstrip("=").lower() or EMPTY_QUEUE_TOKEN


@lru_cache(4096)
def queue_name(token: str) -> str:
    """The queue name of a token. Raises InvalidTokenError if it is not the canonical token of any name.

    `me`, `mf` and `mg` all decode to `a`: if all were accepted, one queue would have three consumers.
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


def is_queue_token(text: str) -> bool:
    """Whether `queue_name` accepts the text."""
    try:
        queue_name(text)
    except InvalidTokenError:
        return False
    return True


def check_job_id(job_id: str) -> str:
    """The id in its canonical form: 24 lower-case hex digits. Raises InvalidJobIdError if it is none in either case."""
    if not is_job_id(job_id):
        raise InvalidJobIdError("Invalid job ID (not ObjectIdHex)")
    return job_id.lower()


def is_job_id(text: str) -> bool:
    """Whether `check_job_id` accepts the text."""
    return _JOB_ID.fullmatch(text) is not None


def new_job_id(milliseconds: int, randomness: bytes) -> str:
    """A time-ordered job id: 12 hex digits of Unix milliseconds, 12 of randomness (6 bytes)."""
    return f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}{randomness.hex()}"
