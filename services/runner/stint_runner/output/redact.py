"""Masking: secret values that are found in a stream of bytes, however it is cut, become `***`."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from stint_runner.output.spellings import SHORTEST

MASK: Final = b"***"
LONGEST: Final = 4096
"""Bytes of a value that are compared at a time. A longer value is looked for in pieces of this length, each of which
overlaps the next one by a byte at least: together they become one `***`. It bounds what is held back, and the work for
each byte of output, whatever the values and the output are."""


class Needles:
    """Values that are looked for together, each of at least 4 bytes. Any number of redactors can share them."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = sorted({piece for value in values for piece in _pieces(value)})
        self._shorter: dict[bytes, bytes] = {}  # for each value the longest other that it begins with, or b""
        nested = [b""]
        for value in self._values:
            while not value.startswith(nested[-1]):
                nested.pop()
            self._shorter[value] = nested[-1]
            nested.append(value)
        self._beginnings = {value[:SHORTEST] for value in self._values}
        self._maybe = _near(self._beginnings)

    def __bool__(self) -> bool:
        return bool(self._values)

    def search(self, text: bytes) -> tuple[list[tuple[int, int]], int]:
        """Where values stand in the text, by their beginnings, and from where on one may begin that the text cuts off.

        Of values that begin at the same place only the longest is told.
        """
        found, cut_off = list[tuple[int, int]](), len(text)
        for start in self._candidates(text):
            length, is_open = self._look(text[start : start + LONGEST])
            if length:
                found.append((start, start + length))
            if is_open:
                cut_off = min(cut_off, start)
        return found, cut_off

    def _candidates(self, text: bytes) -> Iterator[int]:
        search, beginnings = self._maybe.search, self._beginnings
        hit = search(text)
        while hit:
            start = hit.start()
            if hit.group() in beginnings:
                yield start
            hit = search(text, start + 1)
        yield from range(max(len(text) - SHORTEST + 1, 0), len(text))  # too short for a beginning, but maybe cut off

    def _look(self, window: bytes) -> tuple[int, bool]:
        """The length of the longest value that the window begins with, or 0; and whether some value begins with it.

        In sorted order, each value that the window begins with is also a beginning of the last one that is not behind
        the window; and if any value goes on after the window, the first one behind it does.
        """
        following = bisect_right(self._values, window)
        value = self._values[following - 1]
        while not window.startswith(value):
            value = self._shorter[value]
        return len(value), following < len(self._values) and self._values[following].startswith(window)


def _pieces(value: bytes) -> list[bytes]:
    starts = range(0, len(value) - LONGEST, LONGEST - 1)
    return [*(value[start : start + LONGEST] for start in starts), value[-LONGEST:]]


def _near(beginnings: Iterable[bytes]) -> re.Pattern[bytes]:
    """Matches at all beginnings, and at few other places.

    A set of bytes for each place is about as fast as all beginnings side by side, and with many far faster.
    """
    places = zip(*beginnings, strict=True)
    return re.compile(b"".join(b"[%b]" % b"".join(re.escape(bytes([byte])) for byte in set(place)) for place in places))


class Redactor:
    """Masks one stream of bytes, in time that grows with its length however it is cut and whatever is in it.

    Every byte of every occurrence is taken out. Occurrences that overlap become one `***`, those that touch do not.
    Held back is only what an occurrence may begin with: less than the longest value, and than `LONGEST`.

    Attributes:
        count: the `***` that were put in.
    """

    def __init__(self, needles: Needles) -> None:
        self.count = 0
        self._needles = needles
        self._held = b""
        self._covered = 0  # bytes of what is held back that a `***` which was given out stands for

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and give what is certain by now."""
        text = self._held + data
        return self._release(text, *self._needles.search(text))

    def flush(self, *, broken: bool = False) -> bytes:
        """The rest. If the stream broke off, 4 bytes or more that an occurrence may begin with are masked as well."""
        text = self._held
        found, _ = self._needles.search(text)
        if broken and len(text) - self._covered >= SHORTEST:
            found = [(self._covered, len(text))]
        return self._release(text, found, len(text))

    def _release(self, text: bytes, found: Iterable[tuple[int, int]], until: int) -> bytes:
        """Give out the text up to there, which no unknown occurrence can begin before."""
        given, covered = bytearray(), self._covered
        for start, end in found:
            if start > until:
                break
            if start >= covered:
                given += text[covered:start] + MASK
                self.count += 1
            covered = max(covered, end)
        given += text[covered:until]
        self._held, self._covered = text[until:], max(covered - until, 0)
        return bytes(given)
