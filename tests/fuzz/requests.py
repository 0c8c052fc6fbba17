"""Requests, as bytes on the API's socket. `@` in a case stands for a client's token."""

import contextlib
import re
import socket
from dataclasses import dataclass

from tests.fuzz.target import MARK, Target

STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
ASKED = re.compile(rb"^[A-Z-]+ .*@", re.MULTILINE)
"""A request line with the token. What a caller writes into an address may come back: redirects and the page keep it."""
PATIENCE = 0.25
"""Seconds for an answer, which a request that is not complete never gets."""


@dataclass(frozen=True)
class Served:
    """An API's port, and a token for it."""

    port: int
    token: bytes


def check(data: bytes, api: Served) -> None:
    """Whatever is sent: the API stays, no answer is a 500, and none repeats a secret."""
    answer = _sent(data.replace(b"@", api.token), api.port)
    found = STATUS.match(answer)
    assert found or not answer
    assert not found or found[1] not in {b"500", b"502", b"504"}, answer
    assert MARK.encode() not in answer or b"/%s" % MARK.encode() in data
    assert api.token not in answer or ASKED.search(data)


def _sent(request: bytes, port: int) -> bytes:
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        contextlib.suppress(TimeoutError, ConnectionError),
    ):
        connection.settimeout(PATIENCE)
        connection.sendall(request)
        while piece := connection.recv(65536):
            answer += piece
            if b"\r\n\r\n" in answer:
                break
    return answer


WORDS = """\r\n|@|%00|%ff|?limit=|&skip=-1|Content-Length: 9\r\n|Transfer-Encoding: chunked\r\n|Idempotency-Key: |../\
|\0|999999999999999999999|{}|Last-Event-ID: 1-1-1\r\n"""
TARGET = Target(name="requests", check=check, words=WORDS.encode().split(b"|"), fixture="served", brief=60)
