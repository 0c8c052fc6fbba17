"""JSON from outside is read within bounds, in whatever pieces it comes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.errors import TooLargeError, UndecodableError
from stint.core.submission import jsontext
from stint.core.submission.jsontext import MAX_DEPTH, MAX_ESCAPES, MAX_TOKENS, Scanner, read_object

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=5,
)
OBJECTS: Any = st.dictionaries(st.text('ab"\\[]{},', max_size=5), VALUES, max_size=5)


def fed(*pieces: bytes) -> bytes:
    scanner = Scanner()
    return b"".join(scanner.feed(piece) for piece in pieces)


@given(OBJECTS, st.binary(max_size=20), st.integers(1, 7), st.booleans())
def test_the_first_value_is_found_in_pieces_of_any_size(
    value: dict[str, Any], trailing: bytes, size: int, ascii_only: bool
) -> None:
    document = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    data = b" \n" + document + trailing
    assert fed(*(data[start : start + size] for start in range(0, len(data), size))) == b" \n" + document


@given(OBJECTS)
def test_an_object_is_read_as_json_reads_it(value: dict[str, Any]) -> None:
    lower = {name.lower(): item for name, item in value.items()}
    found = read_object(json.dumps(value).encode() + b' ]}" trailing', lower)
    assert found == {name: item for name, item in lower.items() if item is not None}


def test_only_fields_of_these_names_are_read_without_regard_to_case() -> None:
    data = b'{"A": [1], "b": null, "c": 7, "Run": ["x", "\\u00e4"], "RUN": null, "d": {"a": 1}}'
    assert read_object(data, {"a", "b", "run"}) == {"a": [1]}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b" \n", "EOF"), (b"[]", "not a JSON object"), (b"1", "not a JSON object"), (b"{", "not JSON"),
        (b"\xff", "not JSON"), (b'{"a": 1e999999}', "not JSON"), (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": NaN}', "not JSON"), (b'{"a": Infinity}', "not JSON"), (b'{"a": -Infinity}', "not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_object(data: bytes, error: str) -> None:
    with pytest.raises(UndecodableError, match=f"^{error}$"):
        read_object(data, {"a"})


FEW = 2000
"""Tokens, escapes, or bytes outside of strings, which are too many in these tests."""
BOMBS = [part * FEW for part in (b"[],", b"{}", b'"",', b'"":1,', b"1,1,", b'""')]
BOMBS += [b"[" * (MAX_DEPTH + 1), b'{"":' * (MAX_DEPTH + 1), b'"' + b"\\n" * (FEW + 1), b'"' + b"\\\\" * (FEW + 1)]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:6].decode())
@pytest.mark.parametrize("head", [b'{"zzz": [', b'{"run": ['])
def test_what_would_be_costly_to_build_is_refused(monkeypatch: pytest.MonkeyPatch, head: bytes, bomb: bytes) -> None:
    monkeypatch.setattr(jsontext, "MAX_TOKENS", FEW)
    monkeypatch.setattr(jsontext, "MAX_ESCAPES", FEW)
    for whole in (head + bomb, head + bomb + b"]}"):
        with pytest.raises(UndecodableError, match="JSON with more than"):
            read_object(whole, {"run"})
        with pytest.raises(UndecodableError, match="JSON with more than"):
            fed(*(whole[start : start + 1024] for start in range(0, len(whole), 1024)))


@pytest.mark.parametrize("filler", [b" ", b"1", b"x", b"\0"])
def test_so_is_much_between_strings(monkeypatch: pytest.MonkeyPatch, filler: bytes) -> None:
    monkeypatch.setattr(jsontext, "MAX_BETWEEN", FEW)
    with pytest.raises(TooLargeError):
        read_object(b'{"a":' + filler * (FEW + 1), {"a"})


def test_ninety_kilobytes_of_brackets_are_refused_before_they_cost_a_tenth_of_a_second() -> None:
    with pytest.raises(UndecodableError, match="JSON with more than"):
        fed(b'{"zzz":[' + b"[]," * 30_000)


def test_but_not_what_a_job_may_have() -> None:
    levels = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    many = json.dumps(["a"] * (MAX_TOKENS // 2 - 200)).encode()
    content = b"a\\/\\u002b" * (MAX_ESCAPES // 2 - 1)
    found = read_object(b'{"z": %b, "run": %b, "content": "%b"}' % (levels, many, content), {"run", "content"})
    assert len(found["run"]) == MAX_TOKENS // 2 - 200
    assert found["content"] == "a/+" * (MAX_ESCAPES // 2 - 1)
