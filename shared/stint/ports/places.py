"""Where and when something is stored."""

from datetime import datetime
from typing import NamedTuple


class Place(NamedTuple):
    """The queue's token and the job's id in a subject. Neither need exist, but neither is a wildcard."""

    token: str
    job_id: str


class Stamp(NamedTuple):
    """A stored message's sequence in its stream, and the time by the stream's clock."""

    sequence: int
    time: datetime


class StreamState(NamedTuple):
    """A stream at one moment, or the one behind a bucket, whose sequences are the revisions.

    Attributes:
        created: differs from that of a stream that is made anew.
        first: sequence of the oldest message, or of the next one if there is none.
        last: sequence of the newest message there ever was.
    """

    created: str
    first: int
    last: int
