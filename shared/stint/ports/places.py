"""Where and when something is stored."""

from datetime import datetime
from typing import NamedTuple


class Place(NamedTuple):
    """The queue's token and the job's id under which something is stored.

    Both are parts of the subject. Neither needs to belong to an existing queue or job, but neither is a wildcard.
    """

    token: str
    job_id: str


class Stamp(NamedTuple):
    """A stored message's sequence in its stream, and the time by the stream's clock."""

    sequence: int
    time: datetime
