"""Reads JSON from outside within bounds: a document that is too complex is refused before it is parsed."""

import re
from collections.abc import Collection
from typing import Any, Final

import msgspec

from stint.core.errors import TooLargeError, UndecodableError

MAX_DEPTH: Final = 100
"""Nesting of objects and arrays. A job has two levels."""
MAX_TOKENS: Final = 20_000
"""Strings, commas and brackets in a document: 20 ms to scan. A list of 9,000 variables has 18,000."""
MAX_ESCAPES: Final = 1_000_000
"""Backslashes in a document: each costs many times as much as another character. 16 MiB of base64 have 350,000 slashes,
which some encoders escape, and as many plus signs, which other encoders escape."""
MAX_BETWEEN: Final = 4 * 1024 * 1024
"""Bytes outside of strings: white space, numbers and brackets."""

_TOKEN: Final = re.compile(rb'[\[\]{},"]')
_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Scanner:
    """Finds the end of the first JSON object or array in bytes that come in pieces, and refuses what is too complex.

    It does not check that the bytes are JSON; the parser does. Its time is proportional to the number of bytes, most of
    which it passes at the speed of a search, and it keeps none of them.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._tokens = 0
        self._escapes = 0
        self._between = 0
        self._in_string = False
        self._skip = 0
        self._done = False

    def feed(self, piece: bytes) -> bytes:
        """The part of this piece up to the end of the first value. Raises UndecodableError or TooLargeError."""
        place = 0
        while place < len(piece) and not self._done:
            place = self._inside(piece, place) if self._in_string else self._outside(piece, place)
            self._check()
        return piece[:place]

    def _inside(self, piece: bytes, place: int) -> int:
        """Move to the end of the string or of the piece. `_skip` is 1 if an escaped character is in the next piece."""
        place, self._skip = place + self._skip, 0
        quote = -1
        while self._escapes <= MAX_ESCAPES:
            if quote < place:
                quote = piece.find(b'"', place)
                quote = len(piece) if quote < 0 else quote
            escape = piece.find(b"\\", place, quote)
            if escape < 0:
                self._in_string = quote == len(piece)
                return min(quote + 1, len(piece))
            self._escapes += 1
            place = escape + 2
            if place > len(piece):
                self._skip = 1
                return len(piece)
        return place

    def _outside(self, piece: bytes, place: int) -> int:
        limit = min(place + MAX_BETWEEN, len(piece))
        found = _TOKEN.search(piece, place, limit)
        end = found.end() if found else limit
        self._between += end - place
        if found:
            self._tokens += 1
            self._count(found[0])
        return end

    def _count(self, token: bytes) -> None:
        if token == b'"':
            self._in_string = True
        elif token in b"[{":
            self._depth += 1
        elif token in b"]}":
            self._depth -= 1
            self._done = self._depth <= 0

    def _check(self) -> None:
        if self._depth > MAX_DEPTH:
            raise UndecodableError(f"JSON with more than {MAX_DEPTH} levels is not read.")
        if self._tokens > MAX_TOKENS or self._escapes > MAX_ESCAPES:
            raise UndecodableError(f"JSON with more than {MAX_TOKENS} tokens or {MAX_ESCAPES} escapes is not read.")
        if self._between > MAX_BETWEEN:
            raise TooLargeError(
                f"JSON with more than {MAX_BETWEEN // 1024 // 1024} MiB outside of strings is not read."
            )


def read_object(data: bytes, names: Collection[str], *, scanned: bool = False) -> dict[str, Any]:
    """The fields with these names of the first JSON value in `data`, which must be an object.

    Anything after that value is ignored, as in GoStint. Field names are compared without regard to case and returned in
    lower case; fields that are null are omitted. Other fields are not decoded. `scanned`: `data` came from a `Scanner`.

    Raises what `Scanner` does, and UndecodableError if it is empty, not UTF-8, not JSON or not an object.
    """
    raw = _raw(data if scanned else Scanner().feed(data))
    fields = {name.lower(): _decode(text) for name, text in raw.items() if name.lower() in names}
    return {name: value for name, value in fields.items() if value is not None}


def names_in(data: bytes) -> Collection[str]:
    """The names of all fields of that object, as they are written. Raises as `read_object`."""
    return _raw(Scanner().feed(data)).keys()


def _raw(data: bytes) -> dict[str, msgspec.Raw]:
    if not data.strip():
        raise UndecodableError("EOF")
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        raise UndecodableError("not a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UndecodableError("not JSON") from None


def _decode(text: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(text)
    except UnicodeDecodeError:
        raise UndecodableError("not UTF-8") from None
    except msgspec.DecodeError:  # a number that no computer holds, or half of a character
        raise UndecodableError("not JSON") from None
