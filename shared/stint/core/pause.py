"""The pause of a queue: who stopped it from starting jobs, when, and why."""

from typing import Final

import msgspec

from stint.core.codec import decode
from stint.core.errors import UndecodableError
from stint.core.view import NEVER, check_time

UNREADABLE: Final = "What is stored about this pause cannot be read."
"""The reason of such a pause. Nobody knows what was meant, so the queue waits."""


class Pause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A queue's pause. While it is there, the queue starts no job.

    Attributes:
        who: Vault's display name of the operator's token, which need not be unique.
        at: when, RFC 3339 in UTC, according to the API; `NEVER` if that cannot be read.
        entity: id of the identity behind that token, "" if there is none.
        accessor: that token's accessor, "" if it has none.
    """

    who: str
    at: str
    reason: str
    entity: str = ""
    accessor: str = ""


def read_pause(stored: bytes) -> Pause:
    """The stored pause; one that cannot be read says so."""
    try:
        pause = decode(stored, Pause)
        check_time(pause.at)
    except (UndecodableError, ValueError):
        return Pause(who="", at=NEVER, reason=UNREADABLE)
    return pause
