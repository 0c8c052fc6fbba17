"""Masking: secret values that are found in a stream of bytes, however it is cut, become `***`."""

import heapq
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from stint_runner.output.spellings import SHORTEST

MASK: Final = b"***"

_ANCHOR: Final = SHORTEST
"""Bytes of a value that are looked for first, all values at once; no value has fewer."""
_WINDOW: Final = 64
"""Bytes by which values are told apart where many begin alike."""
_STEP: Final = 32
"""Bytes that are compared at first; then twice as many each time."""


class _Needle:
    """One value, and how it overlaps itself (Knuth, Morris and Pratt), worked out as far as that was asked for."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self._borders = array("I", (0, 0))

    def border(self, length: int) -> int:
        """How many of the value's first `length` bytes, but not all, are at their end again."""
        value, borders = self.value, self._borders
        while len(borders) <= length:
            last = value[len(borders) - 1]
            shorter = borders[-1]
            while shorter and value[shorter] != last:
                shorter = borders[shorter]
            borders.append(shorter + (value[shorter] == last))
        return borders[length]


class Needles:
    """Values that are looked for together, each of at least 4 bytes. Any number of redactors can share them.

    Attributes:
        anchors: a pattern that matches wherever a value may begin, and at few other places.
        beginnings: the first 1, 2 and 3 bytes of the values.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._by_anchor: defaultdict[bytes, list[_Needle]] = defaultdict(list)
        self._short: dict[bytes, _Needle] = {}
        for needle in map(_Needle, sorted(set(values))):
            self._by_anchor[needle.value[:_ANCHOR]].append(needle)
            if len(needle.value) < _WINDOW:
                self._short[needle.value] = needle
        self._short_lengths = {len(value) for value in self._short}
        self.beginnings = {anchor[:length] for anchor in self._by_anchor for length in range(1, _ANCHOR)}
        # A set of bytes for each place: about as fast as all anchors one beside the other, and with many far faster.
        self.anchors = re.compile(b"".join(_one_of(set(place)) for place in zip(*self._by_anchor, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._by_anchor)

    def at(self, text: bytearray, place: int) -> Iterable[_Needle]:
        """The values that may begin at this place of the text, as far as one can see from its next bytes."""
        alike = self._by_anchor.get(bytes(text[place : place + _ANCHOR]), [])
        if len(alike) <= 1:
            return alike
        window = bytes(text[place : place + _WINDOW])

        def beginning(needle: _Needle) -> bytes:
            return needle.value[: len(window)]

        first, last = bisect_left(alike, window, key=beginning), bisect_right(alike, window, key=beginning)
        shorter = (self._short.get(window[:length]) for length in self._short_lengths if length < len(window))
        return [*alike[first:last], *(needle for needle in shorter if needle)]


def _one_of(choices: Iterable[int]) -> bytes:
    return b"[%b]" % b"".join(re.escape(bytes([byte])) for byte in choices)


class _Trail:
    """How far one value has been followed in one stream.

    Attributes:
        matched: bytes of the value that the stream ends with; 0 when it is not being followed.
        resume: offset in the stream before which no unknown occurrence begins.
    """

    def __init__(self, needle: _Needle) -> None:
        self.matched = 0
        self.resume = 0
        self._needle = needle

    def follow(self, text: bytearray, at: int, base: int) -> list[tuple[int, int]]:
        """Go on from `text[at]` to the end of the text, or to where the value is lost.

        Returns the occurrences that end on the way, as offsets in the stream, in which the text begins at `base`. Those
        that overlap are one.
        """
        value, matched, found = self._needle.value, self.matched, list[tuple[int, int]]()
        while True:
            agreeing = _agreeing(value, matched, text, at)
            matched, at = matched + agreeing, at + agreeing
            if matched == len(value):
                _add(found, base + at - matched, base + at)
            elif at == len(text):
                break
            matched = self._needle.border(matched)
            if matched < _ANCHOR:  # as much is found again by its anchor
                self.resume, matched = base + at - matched, 0
                break
        self.matched = matched
        return found


def _agreeing(value: bytes, place: int, text: bytearray, at: int) -> int:
    """How many bytes of the value from `place` on are those of the text from `at` on."""
    limit = min(len(value) - place, len(text) - at)
    done, step = 0, _STEP
    while done < limit:
        end = min(done + step, limit)
        mine, theirs = value[place + done : place + end], text[at + done : at + end]
        if mine != theirs:
            different = int.from_bytes(mine, "big") ^ int.from_bytes(theirs, "big")
            return end - (different.bit_length() + 7) // 8
        done, step = end, 2 * step
    return limit


def _add(spans: list[tuple[int, int]], start: int, end: int) -> None:
    if spans and start < spans[-1][1]:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


class Redactor:
    """Masks one stream of bytes, in time that grows with its length however it is cut and whatever is in it.

    Every byte of every occurrence is taken out. Occurrences that overlap become one `***`, those that touch do not.
    Held back is only what an occurrence may begin with: at most the longest value.

    Attributes:
        count: the `***` that were put in.
    """

    def __init__(self, needles: Needles) -> None:
        self.count = 0
        self._needles = needles
        self._trails: dict[_Needle, _Trail] = {}
        self._text = bytearray()  # not given out yet; all offsets below are in the stream
        self._base = 0  # of the text
        self._scanned = 0  # no anchor before it is unknown
        self._covered = 0  # end of the last occurrence that a `***` stands for
        self._found: list[tuple[int, int]] = []  # a heap of occurrences that have none yet

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and give what is certain by now."""
        fresh = len(self._text)
        self._text += data
        self._follow(fresh)
        self._scan()
        return self._release(self._first_open())

    def flush(self, *, broken: bool = False) -> bytes:
        """The rest. If the stream broke off, 4 bytes or more that an occurrence may begin with are masked as well."""
        end = self._base + len(self._text)
        first = max(self._first_open(), self._covered)
        if broken and end - first >= SHORTEST:
            heapq.heappush(self._found, (first, end))
        self._trails.clear()
        return self._release(end)

    def _follow(self, fresh: int) -> None:
        self._trails = {needle: trail for needle, trail in self._trails.items() if trail.matched}
        for trail in self._trails.values():
            self._note(trail.follow(self._text, fresh, self._base))

    def _scan(self) -> None:
        text, base, search = self._text, self._base, self._needles.anchors.search
        hit = search(text, self._scanned - base)
        while hit:
            at = hit.start()
            for needle in self._needles.at(text, at):
                trail = self._trails.get(needle) or self._trails.setdefault(needle, _Trail(needle))
                if not trail.matched and trail.resume <= base + at:
                    self._note(trail.follow(text, at, base))
            hit = search(text, at + 1)
        self._scanned = max(self._scanned, base + len(text) - _ANCHOR + 1)

    def _note(self, occurrences: list[tuple[int, int]]) -> None:
        for occurrence in occurrences:
            heapq.heappush(self._found, occurrence)

    def _first_open(self) -> int:
        """Where the first occurrence may begin that is not known yet."""
        end = self._base + len(self._text)
        tails = (bytes(self._text[-length:]) for length in range(_ANCHOR - 1, 0, -1))
        tail = next((len(tail) for tail in tails if tail in self._needles.beginnings), 0)
        return end - max([tail, *(trail.matched for trail in self._trails.values())])

    def _release(self, until: int) -> bytes:
        """Give out the text up to there, which no new occurrence can begin before."""
        given = bytearray()
        done = self._base
        while self._found and self._found[0][0] <= until:
            start, end = heapq.heappop(self._found)
            if start >= self._covered:
                given += self._plain(done, start) + MASK
                self.count += 1
                done = start
            self._covered = max(self._covered, end)
        given += self._plain(done, until)
        del self._text[: until - self._base]
        self._base = until
        return bytes(given)

    def _plain(self, start: int, end: int) -> bytes:
        start = max(start, self._covered)
        return bytes(self._text[start - self._base : end - self._base]) if start < end else b""
