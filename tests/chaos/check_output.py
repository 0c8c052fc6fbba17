"""I6: whether a job's output is what its command wrote."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

from stint.core.events import Ended
from stint.core.job import Job
from stint.core.output.chain import Chunk
from tests.chaos.evidence import Submission

_STREAMS = ("stdout", "stderr")


def output_faults(job: Job, submission: Submission | None, chunks: Sequence[Chunk]) -> Iterator[str]:
    """Sentences. A job that was lost or killed has the beginning of its output; one that ended normally has all."""
    yield from _chain_faults(chunks)
    ended = job.fact(Ended)
    if ended is None:
        return
    normal = ended.status == "success" or ended.reason == "exit_code"
    if normal and not ended.output_complete:
        yield "It ended normally, and its output is incomplete."
    if normal:
        yield from _sum_faults(ended, chunks)
    if submission is not None:
        yield from _text_faults(submission, chunks, whole=normal)


def _chain_faults(chunks: Sequence[Chunk]) -> Iterator[str]:
    digest, offset = "", 0
    for number, chunk in enumerate(chunks, start=1):
        digest = hashlib.sha256(digest.encode() + chunk.data).hexdigest()
        if (chunk.number, chunk.offset, chunk.digest) != (number, offset, digest):
            yield f"Chunk {number} of its output does not follow the one before it."
            return
        offset += len(chunk.data)
    if any(later.sequence <= earlier.sequence for earlier, later in pairwise(chunks)):
        yield "The chunks of its output stand in the wrong order."


def _sum_faults(ended: Ended, chunks: Sequence[Chunk]) -> Iterator[str]:
    told = (ended.chunks, ended.output_bytes, ended.output_digest)
    last = chunks[-1].digest if chunks else ""
    if told != (len(chunks), sum(len(chunk.data) for chunk in chunks), last):
        yield "What its end says of its output is not what is stored."


def _text_faults(submission: Submission, chunks: Sequence[Chunk], *, whole: bool) -> Iterator[str]:
    for stream in _STREAMS:
        written = b"".join(chunk.data for chunk in chunks if chunk.stream == stream)
        wanted = submission.output(stream)
        if (written != wanted) if whole else not wanted.startswith(written):
            yield f"Its {stream} is not what its command wrote: {len(written)} bytes of {len(wanted)}."
