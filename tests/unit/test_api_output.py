from collections.abc import AsyncIterator

import pytest

from stint.eventlog import Chunk
from stint_api.answers import JsonAnswer
from stint_api.output import Text
from stint_api.runners import summary


async def _chunks(*pieces: tuple[str, bytes]) -> AsyncIterator[Chunk]:
    for number, (stream, data) in enumerate(pieces, start=1):
        yield Chunk(number=number, offset=0, stream=stream, digest="", data=data)


async def test_streams_are_interleaved_and_apart() -> None:
    text = await Text().fill(_chunks(("stdout", b"a\n"), ("stderr", b"b\n"), ("stdout", b"c\n"), ("tty", b"d\n")))
    assert (text.both, text.stdout, text.stderr) == ("a\nb\nc\nd\n", "a\nc\nd\n", "b\n")
    assert (text.size, text.truncated) == (8, False)


async def test_a_character_may_be_split_around_the_other_stream() -> None:
    euro = "\u20ac".encode()
    text = await Text().fill(_chunks(("stdout", euro[:1]), ("stderr", b"!"), ("stdout", euro[1:]), ("stdout", b"\xff")))
    assert (text.both, text.stdout) == ("!\u20ac\ufffd", "\u20ac\ufffd")


async def test_a_broken_last_character_is_replaced() -> None:
    assert (await Text().fill(_chunks(("stdout", b"a\xe2\x82")))).both == "a\ufffd"


@pytest.mark.parametrize(("budget", "kept", "truncated"), [(6, "abcdef", False), (4, "abcd", True), (0, "", True)])
async def test_memory_is_bounded(budget: int, kept: str, truncated: bool) -> None:
    text = await Text(budget=budget).fill(_chunks(("stdout", b"abc"), ("stdout", b"def")))
    assert (text.both, text.size, text.truncated) == (kept, budget, truncated)


def test_an_answer_can_stand_in_a_page() -> None:
    body = bytes(JsonAnswer({"x": "</script>&\u2028\ud800\u00e9"}).body)
    assert body == '{"x":"\\u003c/script\\u003e\\u0026\\u2028?\u00e9"}\n'.encode()


def test_without_runners_there_are_zeros() -> None:
    assert summary([])["images"] == "0"
    assert not summary([])["operating_system"]


@pytest.mark.parametrize("junk", [None, "7", [], float("nan"), float("inf"), 1e300, {"a": 1}])
def test_junk_in_a_report_counts_nothing(junk: object) -> None:
    assert summary([{"images": junk}, {"images": 2}])["images"] == "2"
