"""What masking must come to, found in the simplest way."""

from collections.abc import Iterable

Span = tuple[int, int]


def occurrences(values: Iterable[bytes], text: bytes) -> list[Span]:
    """Where values stand in a text; those that overlap are one."""
    found = [(at, at + len(value)) for value in values for at in range(len(text)) if text.startswith(value, at)]
    regions: list[Span] = []
    for start, end in sorted(found):
        if regions and start < regions[-1][1]:
            regions[-1] = (regions[-1][0], max(end, regions[-1][1]))
        else:
            regions.append((start, end))
    return regions


def masked(regions: Iterable[Span], text: bytes) -> bytes:
    parts, done = list[bytes](), 0
    for start, end in regions:
        parts += [text[done:start], b"***"]
        done = end
    return b"".join([*parts, text[done:]])
