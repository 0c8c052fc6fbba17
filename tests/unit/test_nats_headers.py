"""The headers of messages of NATS."""

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from stint.jetstream.wire.protocol import headers_in

BYTES = st.text(alphabet=" \t\r\n:aB\x1c\x85é€-0").map(str.encode) | st.binary()


@given(st.lists(BYTES).map(b"\r\n".join))
def test_headers_are_those_that_nats_py_reads(lines: bytes) -> None:
    read = Client._parse_header_lines(lines)  # noqa: SLF001 - what `headers_in` stands in place of
    read.pop("", None)  # what has no name has no meaning
    assert headers_in(lines) == read


def test_a_header_has_a_name_and_any_value() -> None:
    lines = b"Nats-Sequence: 17\r\nNo Name: 1\r\n\xff: 1\r\nnothing\r\nWho: J\xc3\xb6rg\r\nBytes:\xff\r\n\r\n"
    assert headers_in(lines) == {"Nats-Sequence": "17", "Who": "Jörg", "Bytes": "\ufffd"}
