"""Replaces secret values in a stream of bytes, however it is cut, by `***`."""

import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, Final

from yaml.emitter import Emitter

MASK: Final = b"***"
SHORTEST: Final = 4  # characters: shorter values occur everywhere by chance, and are not masked
LONGEST: Final = 4096
"""Bytes of a value that are compared at a time. A longer value is searched for in overlapping pieces of this length,
which together become one `***`. This limits what is held back, and the work for each byte of output."""
_ESCAPED: Final = re.compile('[^ -~\xa0-\ud7ff\ue000-\ufffd]|["\\\\\u2028\u2029\ufeff]')
"""What PyYAML escapes between double quotes, as it writes the secrets file."""


class Needles:
    """Values to search for together, each of at least 4 bytes. Any number of redactors can share them."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = sorted({piece for value in values for piece in _pieces(value)})
        # For each value the lengths of those that it begins with, itself among them: fewer than it has bytes.
        self._lengths: dict[bytes, array[int]] = {}
        nested: list[bytes] = []
        for value in self._values:
            while nested and not value.startswith(nested[-1]):
                nested.pop()
            nested.append(value)
            self._lengths[value] = array("H", map(len, nested))
        self._beginnings = {value[:SHORTEST] for value in self._values}
        self._maybe = _near(self._beginnings)

    def __bool__(self) -> bool:
        return bool(self._values)

    def search(self, text: bytes) -> tuple[list[tuple[int, int]], int]:
        """The values in the text as (start, end), the longest at each place, and where a cut-off one may begin."""
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
        lengths = self._lengths[value]
        found = bisect_right(lengths, 0, key=lambda length: not window.startswith(value[:length]))
        is_open = following < len(self._values) and self._values[following].startswith(window)
        return lengths[found - 1] if found else 0, is_open


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
    """

    def __init__(self, needles: Needles) -> None:
        self.count = 0
        self._needles = needles
        self._held = b""
        self._covered = 0  # bytes held back that are part of a `***` already returned

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and return what is certain by now."""
        text = self._held + data
        return self._release(text, *self._needles.search(text))

    def flush(self, *, broken: bool = False) -> bytes:
        """Return the rest. If the stream broke off, 4 bytes or more with which a value may begin are masked as well."""
        text = self._held
        found, _ = self._needles.search(text)
        if broken and len(text) - self._covered >= SHORTEST:
            found = [(self._covered, len(text))]
        return self._release(text, found, len(text))

    def _release(self, text: bytes, found: Iterable[tuple[int, int]], until: int) -> bytes:
        """Return the text up to there, before which no unknown occurrence can begin."""
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


# --- what a job's secrets may look like in its output ---------------------------------------------------------------


def spellings(values: Iterable[Any]) -> set[bytes]:
    r"""What to search for to find these JSON values: each text and number in them of 4 characters or more.

    Besides itself: as the secrets file spells it (in JSON, and in YAML at the file's first level), without the line
    breaks at its end, which shells drop, and with `\r\n` for each line break, as terminals print it. Also each of its
    lines, which a diff, a list of lines, deeper YAML and colours show apart.
    """
    parts = (part for leaf in _leaves(values) for part in (leaf, *_lines(leaf)) if len(str(part)) >= SHORTEST)
    forms = {form for part in parts for form in _spelt(part) if len(form) >= SHORTEST}
    forms |= {form.replace("\n", "\r\n") for form in forms}
    return {form.encode(errors="surrogatepass") for form in forms}


def _leaves(values: Iterable[Any]) -> Iterator[str | float]:
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, (list, tuple)):
            left.extend(value)
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield value


def _lines(leaf: str | float) -> Iterator[str]:
    if isinstance(leaf, str) and "\n" in leaf:
        yield from (line.strip(" \t\r") for line in leaf.split("\n"))


def _spelt(leaf: str | float) -> Iterator[str]:
    if isinstance(leaf, str):
        body = leaf.rstrip("\r\n")
        yield from (leaf, body)
        yield from (json.dumps(body)[1:-1], json.dumps(body, ensure_ascii=False)[1:-1])
        yield _ESCAPED.sub(_escaped, body)  # between YAML's double quotes
        yield body.replace("'", "''")  # between YAML's single quotes
        yield re.sub(r"\n(?!\n)", "\n  ", body)  # YAML's block of lines
    else:
        number = json.dumps(leaf)
        yield number
        if "." not in number:
            yield number.replace("e", ".0e")  # YAML's way with exponents


def _escaped(match: re.Match[str]) -> str:
    character, code = match[0], ord(match[0])
    if short := Emitter.ESCAPE_REPLACEMENTS.get(character):
        return f"\\{short}"
    return f"\\x{code:02X}" if character <= "\xff" else f"\\u{code:04X}" if character <= "\uffff" else f"\\U{code:08X}"
