import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stint_runner.inputs.secretfile import render
from stint_runner.output.redact import LONGEST, SHORTEST, Needles, Redactor, spellings
from tests.support.masks import masked, occurrences


def redacted(values: Iterable[bytes], pieces: Iterable[bytes]) -> tuple[bytes, int]:
    redactor = Redactor(Needles(values))
    text = b"".join([redactor.feed(piece) for piece in pieces])
    return text + redactor.flush(), redactor.count


def cut(text: bytes, sizes: Iterable[int]) -> list[bytes]:
    pieces = list[bytes]()
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


# Few letters and much repetition: that is where values overlap themselves and each other.
FEW = st.sampled_from([b"a", b"b"])
VALUE = st.lists(FEW, min_size=4, max_size=9).map(b"".join) | st.builds(
    lambda part, times: part * times, st.sampled_from([b"ab", b"aab", b"a"]), st.integers(4, 40)
)
VALUES = st.lists(VALUE, min_size=1, max_size=5)
SIZES = st.lists(st.integers(0, 7), max_size=20)


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Values, and a text made of them, their beginnings and other things."""
    values = draw(VALUES)
    value = st.sampled_from(values)
    part = value | st.builds(lambda whole, size: whole[:size], value, st.integers(1, 12)) | FEW | st.just(b"-")
    return values, b"".join(draw(st.lists(part, max_size=12)))


@given(searches(), SIZES)
@example(([b"aaaa"], b"a" * 9), [4, 1])
@example(([b"abab", b"babaa"], b"ababaab"), [1, 1, 1, 1])
@example(([b"aaaaabaaaaa"], b"aaaaabaaaaa" * 2), [])
@example(([b"aaab" * 20 + b"c", b"abaa"], b"aaab" * 25 + b"c"), [7] * 9)
def test_the_result_is_the_naive_one_however_it_is_cut(search: tuple[list[bytes], bytes], sizes: list[int]) -> None:
    values, text = search
    regions = occurrences(values, text)
    assert redacted(values, cut(text, sizes)) == (masked(regions, text), len(regions))


@given(searches(), SIZES)
def test_only_what_may_become_an_occurrence_is_held_back(search: tuple[list[bytes], bytes], sizes: list[int]) -> None:
    values, text = search
    redactor, so_far, given_out = Redactor(Needles(values)), b"", b""
    for piece in cut(text, sizes):
        so_far += piece
        given_out += redactor.feed(piece)
        beginnings = [value[:size] for value in values for size in range(1, len(value))]
        held = max((len(beginning) for beginning in beginnings if so_far.endswith(beginning)), default=0)
        known = occurrences(values, so_far)
        sure = len(so_far) - held
        begun = [region for region in known if region[0] <= sure]
        shown = masked([(start, min(end, sure)) for start, end in begun if start < sure], so_far[:sure])
        assert given_out == shown + b"***" * sum(start == sure for start, _ in begun)


@pytest.mark.parametrize(
    ("text", "expected"), [(b"a hunt", b"a ***"), (b"a hun", b"a hun"), (b"hunter22hunt", b"******"), (b"x", b"x")]
)
def test_where_a_stream_breaks_off_the_beginning_of_a_value_is_masked_too(text: bytes, expected: bytes) -> None:
    redactor = Redactor(Needles([b"hunter22"]))
    assert redactor.feed(text) + redactor.flush(broken=True) == expected


def _seconds(values: Iterable[bytes], pieces: Iterable[bytes]) -> float:
    begun = time.process_time()
    redacted(values, pieces)
    return time.process_time() - begun


MIB = 2**20
NOISE = random.Random(1).randbytes(MIB)  # noqa: S311 - any bytes
HARD: dict[str, Callable[[int], tuple[bytes, list[bytes]]]] = {
    "a long value, cut finely": lambda size: (NOISE[:size], cut(NOISE[: size - 1] + b"x", [16] * (size // 16))),
    "nearly, again and again": lambda size: (b"a" * size, [(b"a" * (size - 1) + b"b") * 2]),
    "overlapping itself all along": lambda size: (b"a" * size, [b"a" * 3 * size]),
    "found again and again": lambda size: (NOISE[:size], [NOISE[:size] * 4]),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", HARD)
def test_the_time_grows_with_the_length(name: str) -> None:
    """Eight times as much takes about eight times as long; if it grew with the square it would be 64 times."""
    seconds = []
    for size in (MIB // 128, MIB // 16):
        value, pieces = HARD[name](size)
        seconds.append(min(_seconds([value], pieces) for _ in range(2)))
    assert seconds[1] < 32 * max(seconds[0], 0.001)


@pytest.mark.soak
def test_values_that_begin_with_one_another_cost_little() -> None:
    """To try them one after the other took a hundred times as long as to look for a single value."""
    nested, text = [b"a" * length for length in range(SHORTEST, 1400)], b"a" * 700 + b"b"
    assert _seconds(nested, [30 * text]) < 30 * max(_seconds(nested[:1], [30 * text]), 0.001)


@pytest.mark.parametrize(("length", "bound"), [(3000, 2999), (9000, LONGEST - 1)])
def test_what_is_held_back_is_bounded(length: int, bound: int) -> None:
    redactor = Redactor(Needles([NOISE[:length]]))
    sizes = []
    for piece in cut(NOISE[: length - 1] * 3, [100] * (3 * length // 100)):
        redactor.feed(piece)
        sizes.append(len(redactor._held))  # noqa: SLF001 - what is held back shows nowhere else
    assert max(sizes) == bound


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 2 * LONGEST - 1, 2 * LONGEST, 5 * LONGEST + 7])
def test_a_long_value_becomes_one_mask_however_it_is_cut(length: int) -> None:
    value = NOISE[:length]
    text = b"before " + value + value + b" after"
    for step in (1000, LONGEST, 6 * LONGEST):
        assert redacted([value], cut(text, [step] * (len(text) // step))) == (b"before ****** after", 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hunter22", {b"hunter22"}),
        ("abc", set()),
        ("äöü", set()),
        ("äöüß", {"äöüß".encode(), b"\\u00e4\\u00f6\\u00fc\\u00df"}),
        (1234, {b"1234"}),
        (123, set()),
        (-12.5, {b"-12.5"}),
        (1e20, {b"1e+20", b"1.0e+20"}),
        (True, set()),
        (None, set()),
        ("", set()),
        ({"a key": ["deep", {"x": "down below"}], "y": False}, {b"deep", b"down below"}),
        (["in a list", 98765], {b"in a list", b"98765"}),
        ("it's", {b"it's", b"it''s"}),
        ("sec\n", {b"sec\n", b"sec\r\n"}),
        ("secret\n", {b"secret\n", b"secret\r\n", b"secret"}),
        ("a\nb\nc", {b"a\nb\nc", b"a\r\nb\r\nc", b"a\\nb\\nc", b"a\n  b\n  c", b"a\r\n  b\r\n  c"}),
        ("ab\r\nc", {b"ab\r\nc", b"ab\r\r\nc", b"ab\\r\\nc", b"ab\r\n  c", b"ab\r\r\n  c"}),
        ("a\nbc", {b"a\nbc", b"a\r\nbc", b"a\\nbc", b"a\n  bc", b"a\r\n  bc"}),
        (
            "\ud800\ud800\ud800x",
            {b"\xed\xa0\x80" * 3 + b"x", b"\\ud800\\ud800\\ud800x", b"\\uD800\\uD800\\uD800x"},
        ),
        ("a\x1b\x00\x7f", {b"a\x1b\x00\x7f", b"a\\u001b\\u0000\x7f", b"a\\u001b\\u0000\\u007f", b"a\\e\\0\\x7F"}),
    ],
)
def test_spellings(value: Any, expected: set[bytes]) -> None:
    assert spellings([value]) == expected


@pytest.mark.parametrize(
    ("before", "after", "between"),
    [
        ("+", "\n", ""),  # a diff
        ('"', '"', ", "),  # a list of lines
        ("        ", "\r\n", ""),  # YAML in YAML, on a terminal
        ("\x1b[0;32m", "\x1b[0m\n", ""),
        ("> ", "\n", ""),
    ],
)
def test_each_line_of_a_value_is_masked_apart(before: str, after: str, between: str) -> None:
    """As Ansible shows a key that it writes, registers or prints. Lines of less than 4 characters are no secret."""
    key = "-----BEGIN KEY-----\nb3BlbnNz\n  QyNTUx\r\nA==\n-----END KEY-----\n"
    shown, masked = (
        between.join(f"{before}{line}{after}" for line in lines).encode()
        for lines in (
            ["-----BEGIN KEY-----", "b3BlbnNz", "QyNTUx", "A==", "-----END KEY-----"],
            ["***", "***", "***", "A==", "***"],
        )
    )
    assert redacted(spellings([key]), [shown]) == (masked, 4)


def test_deeply_nested_values_and_none() -> None:
    assert not Needles(spellings([]))
    nested: Any = "hunter22"
    for _ in range(10_000):
        nested = [nested]
    assert spellings([nested]) == {b"hunter22"}


SPECIAL = "\0\a\t\r\x1b\x7f\x80\x85\xa0\u2028\u2029\ufeff\ufffe\ud800\U0001f600"
LINES = st.lists(st.text("ab'\"\\: #é" + SPECIAL, min_size=1, max_size=12), min_size=1, max_size=4).map("\n".join)
NUMBERS = st.integers(1000, 10**18) | st.floats(1000, 1e300)


@given(LINES.filter(lambda text: len(text) >= 4 and text == text.strip()) | NUMBERS, st.sampled_from(["yaml", "json"]))
def test_the_secrets_file_itself_is_masked(value: str | float, file_type: str) -> None:
    """Whatever quotes are around it, nothing of the value is left."""
    _, file = render({"k": value}, file_type)
    text, count = redacted(spellings([value]), [file])
    assert count == 1
    _, empty = render({"k": ""}, file_type)
    rest = text.replace(b"***", b"").replace(b"|-\n  ", b"").replace(b"|2-\n  ", b"")
    assert rest.translate(None, b"'\" \n") == empty.translate(None, b"'\" \n")
