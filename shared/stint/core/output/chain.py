"""The chain of digests that proves that a job's output is complete."""

import hashlib

import msgspec

from stint.core.events import Ended


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a job's output.

    Attributes:
        number: from 1, without gaps; 0 for a stranger's message that is no chunk, and has only a sequence.
        offset: bytes of output before it.
        stream: `stdout`, `stderr` or `tty`.
        digest: hex SHA-256 of the previous chunk's digest (hex, "" for the first) followed by `data`.
        sequence: of the message in LOGS, 0 for a chunk not yet stored.
        time: when LOGS stored it, RFC 3339 in UTC; "" for a chunk not yet stored.
        line: number of the first line that begins in it, or would if one did; see `stint.core.output.lines`. 0 if its
            writer did not count lines.
        continues: whether its first byte belongs to a line of its stream that began in an earlier chunk.
    """

    number: int
    offset: int
    stream: str
    digest: str
    data: bytes
    sequence: int = 0
    time: str = ""
    line: int = 0
    continues: bool = False


class Chain(msgspec.Struct, frozen=True):
    """The number and size of the chunks of an output, and the hex chain digest of the last one, "" without any."""

    chunks: int = 0
    size: int = 0
    digest: str = ""

    def add(self, data: bytes) -> "Chain":
        """The output with one more chunk."""
        digest = hashlib.sha256(self.digest.encode() + data).hexdigest()
        return Chain(self.chunks + 1, self.size + len(data), digest)

    @classmethod
    def through(cls, chunk: Chunk) -> "Chain":
        """The chain up to and including this chunk, as the chunk itself claims."""
        return cls(chunk.number, chunk.offset + len(chunk.data), chunk.digest)

    @classmethod
    def recorded(cls, ended: Ended | None) -> "Chain":
        """The chain of the whole output, as the job's `ended` claims."""
        return cls(ended.chunks, ended.output_bytes, ended.output_digest) if ended else cls()
