import base64
import io
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from rich.console import Console

from stint.client.api import Api, ApiUnreachableError, LiveEvent
from stint.client.follow import Narrator, OutputDiffersError, follow
from stint.core.chain import Chain

JOB = {"status": "success", "return_code": 0, "reason": "", "error": "", "output_complete": True}


class Stream(Api):
    """An API that tells these events, and breaks where None stands."""

    def __init__(self, *events: LiveEvent | None) -> None:
        self._events = iter(events)

    async def events(self, job_id: str, *, after: str = "") -> AsyncIterator[LiveEvent]:  # noqa: ARG002 - Api's
        for event in self._events:
            if event is None:
                raise ApiUnreachableError("gone")
            yield event


class Shown:
    def __init__(self) -> None:
        self.data = b""
        self.text = io.StringIO()

    async def write(self, stream: str, data: bytes) -> None:  # noqa: ARG002 - Sink's
        self.data += data

    async def follow(self, *events: LiveEvent | None) -> Mapping[str, Any]:
        narrator = Narrator(Console(file=self.text, width=200), quiet=True)
        job = await follow(Stream(*events), "0" * 24, self, narrator)
        narrator.end(job)
        return job


def output(data: bytes) -> LiveEvent:
    return LiveEvent("output", {"stream": "stdout", "data": base64.b64encode(data).decode()}, str(data))


def ended(*pieces: bytes, **fields: Any) -> LiveEvent:
    chain = Chain()
    for piece in pieces:
        chain = chain.add(piece)
    counted = {"output_chunks": chain.chunks, "output_bytes": chain.size, "output_digest": chain.digest}
    return LiveEvent("fact", {"kind": "ended", **counted, **fields}, "ended")


def end(**fields: Any) -> LiveEvent:
    return LiveEvent("end", {**JOB, **fields}, "end")


async def test_an_output_that_is_what_the_end_tells_of_is_taken() -> None:
    shown = Shown()
    job = await shown.follow(output(b"one"), None, output(b"two"), None, ended(b"one", b"two"), end())
    assert (job, shown.data, shown.text.getvalue()) == (JOB, b"onetwo", "")


@pytest.mark.parametrize(
    "pieces", [[b"one"], [b"two", b"one"], [b"one", b"one", b"two"], [b"onetwo"], [b"one", b"twO"], []]
)
async def test_any_other_output_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(OutputDiffersError):
        await Shown().follow(*map(output, pieces), ended(b"one", b"two"), end())


async def test_an_output_that_is_not_whole_is_said_to_be_so() -> None:
    shown = Shown()
    await shown.follow(output(b"one"), ended(b"one", b"two"), end(output_complete=False))
    assert shown.text.getvalue() == "stint: Part of the job's output may be missing above.\n"


async def test_a_server_that_does_not_tell_the_digest_is_believed() -> None:
    await Shown().follow(output(b"one"), LiveEvent("fact", {"kind": "ended"}, "ended"), end())
