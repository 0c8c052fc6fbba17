"""The numbers of an output's lines, and where a reader of the last ones begins."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from stint.core.output.chain import Chunk
from stint.core.output.lines import last_line, start_of
from stint.ports import Place
from stint.testing import MemoryOutput
from stint_api.read.job.lines import Position, beginning
from tests.support.events import TOKEN
from tests.support.outputs import Writer

ID = "0" * 24
HERE = Place(TOKEN, ID)

TEXTS = st.text("ab\n", max_size=6).map(str.encode)
PIECES = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), TEXTS), min_size=1, max_size=30)


def numbered(bits: Iterable[tuple[str, bytes]]) -> list[tuple[int, int]]:
    """The lines of an output, byte by byte: the offset at which each begins, and its number."""
    open_lines: set[str] = set()
    found, offset = list[tuple[int, int]](), 0
    for stream, data in bits:
        for byte in data:
            if stream not in open_lines:
                found.append((offset, len(found) + 1))
                open_lines.add(stream)
            if byte == ord("\n"):
                open_lines.discard(stream)
            offset += 1
    return found


async def stored(pieces: Iterable[tuple[str, bytes]]) -> tuple[MemoryOutput, list[Chunk]]:
    output = MemoryOutput()
    writer = Writer(output, TOKEN, ID)
    await output.append(TOKEN, "f" * 24, Chunk(number=1, offset=0, stream="stdout", digest="", data=b"x\n"), after=0)
    for stream, data in pieces:
        await writer.write(data, stream)
    return output, [chunk async for chunk in output.read(*HERE)]


@given(PIECES, st.data())
async def test_every_line_has_the_same_number_however_the_output_is_split_into_chunks(
    pieces: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    split = [
        (stream, part)
        for stream, text in pieces
        for at in [data.draw(st.integers(0, len(text)))]
        for part in (text[:at], text[at:])
    ]
    _, chunks = await stored(split)
    assert numbered(pieces) == [
        (chunk.offset + start_of(chunk, line), line)
        for chunk in chunks
        for line in range(chunk.line, last_line(chunk, chunk.data) + 1)
    ]
    for chunk in chunks:
        assert start_of(chunk, last_line(chunk, chunk.data) + 1) == len(chunk.data), "where chunks are missing, too"


@given(PIECES, st.integers(0, 40))
async def test_the_beginning_of_any_line_is_found(pieces: list[tuple[str, bytes]], number: int) -> None:
    output, chunks = await stored(pieces)
    whole = b"".join(chunk.data for chunk in chunks)
    offsets = {line: offset for offset, line in numbered(pieces)}
    for (before, first), line in (
        (await beginning(output, HERE, tail=number, from_line=None), max(1, len(offsets) - number + 1)),
        (await beginning(output, HERE, tail=None, from_line=number or 1), number or 1),
    ):
        rest = [chunk async for chunk in output.read(*HERE, after=before.output)]
        assert before.number == len(chunks) - len(rest), "no chunk is missing, and the next one's number is known"
        told = b"".join(chunk.data for chunk in rest)
        cut = start_of(rest[0], first) if rest and first else 0
        assert told[cut:] == (whole[offsets[line] :] if line in offsets else b"")


async def test_an_output_whose_lines_were_not_counted_is_given_whole() -> None:
    output = MemoryOutput()
    await output.append(*HERE, Chunk(number=1, offset=0, stream="stdout", digest="", data=b"1\n2\n"), after=0)
    assert await beginning(output, HERE, tail=1, from_line=None) == (Position(), 0)


async def test_the_last_lines_of_a_long_output_take_few_reads() -> None:
    class Counting(MemoryOutput):
        reads = 0

        async def next(self, token: str, job_id: str, *, after: int) -> Chunk | None:
            self.reads += 1
            return await super().next(token, job_id, after=after)

    output = Counting()
    writer = Writer(output, *HERE)
    for number in range(1, 1001):
        await writer.write(b"%d\n" % number * 10)
    before, line = await beginning(output, HERE, tail=25, from_line=None)
    assert (before.number, line) == (997, 9976)
    assert output.reads <= 11
