"""Uvicorn's protocol on httptools, which says how far the client's requests and their answers have come.

Uvicorn itself takes heads of any size, and any number of requests ahead of their answers.
"""

import asyncio
from enum import Enum, auto
from typing import Final, NoReturn

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 64 * 1024
"""Of a request's line and headers, in a head that comes in pieces."""
AHEAD: Final = 16
"""Requests that a client may send ahead of the answer to an earlier one."""
NO_UPGRADE: Final = "A request with a body cannot ask for another protocol. Send it without the header Upgrade."
TOO_MANY: Final = f"More than {AHEAD} requests wait for the answer to an earlier one on this connection."


class Part(Enum):
    """What the client owes next."""

    HEAD = auto()
    BODY = auto()
    NOTHING = auto()


class TrackedProtocol(HttpToolsProtocol):
    """One connection."""

    owed: Part = Part.HEAD
    """What the client has to send next."""
    head_began: bool = False
    """Whether it has sent a part of a head."""
    fault: str = ""
    """Why what it sent is refused, "" for what is not HTTP."""
    _head_size: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take note of the client, by its own address: a listener for both writes one of IPv4 as one of IPv6."""
        super().connection_made(transport)
        if self.client is not None:
            host, port = self.client
            self.client = (host.removeprefix("::ffff:"), port)

    def part_complete(self) -> None:
        """Called when a head or a whole request is complete."""

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent."""
        super().data_received(data)
        if self.head_began:
            self._head_size += len(data)
            if self._head_size > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.owed, self.head_began, self._head_size = Part.HEAD, True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, without the white space behind it. Those behind a body, any number, are of no use."""
        if self.owed is Part.HEAD:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Begin to answer, or let the request wait for the answers to earlier ones."""
        if self.parser.should_upgrade() and any(_announces_body(*header) for header in self.headers):
            self._stop_parser(NO_UPGRADE)  # it would take the body for another protocol, and then for the next request
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser has dropped what the client sent behind it
        self.part_complete()
        self.owed, self.head_began = Part.BODY, False
        if len(self.pipeline) > AHEAD:
            self._stop_parser(TOO_MANY)

    def on_message_complete(self) -> None:
        """The client has sent all of a request."""
        super().on_message_complete()
        self.part_complete()
        self.owed = Part.NOTHING

    def _stop_parser(self, fault: str) -> NoReturn:
        """Uvicorn then calls `send_400_response`."""
        self.fault = fault
        raise ValueError(fault)

    def answering(self) -> bool:
        """Whether a request waits for the end of its answer."""
        return bool(self.cycle) and not self.cycle.response_complete

    def can_refuse(self) -> bool:
        """Whether an answer can be given now: it would not stand in or behind that to the same request."""
        if self.answering():
            return self.owed is Part.BODY and not self.cycle.response_started and not self.pipeline
        return self.owed is not Part.BODY


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
