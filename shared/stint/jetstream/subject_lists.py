"""Lists the subjects that have messages in a stream."""

from collections.abc import AsyncIterator
from typing import Any

from stint.jetstream.answers import check
from stint.jetstream.broker import Broker
from stint.ports import Place


async def subjects_held(broker: Broker, stream: str, pattern: str) -> AsyncIterator[str]:
    """The subjects under `pattern` that have messages, in pages of 100,000. Costs 3 ms for 1000."""
    offset = 0
    while True:
        request = {"subjects_filter": pattern, "offset": offset}
        answer = check(await broker.api(f"STREAM.INFO.{stream}", request))
        subjects: dict[str, Any] = answer["state"].get("subjects") or {}
        for subject in subjects:
            yield subject
        offset += len(subjects)
        if not subjects or offset >= answer.get("total", 0):
            return


async def places_held(broker: Broker, stream: str, pattern: str) -> set[Place]:
    """The second and third token of these subjects."""
    held = [subject.split(".") async for subject in subjects_held(broker, stream, pattern)]
    return {Place(*parts[1:3]) for parts in held if is_literal(*parts[1:3])}


def is_literal(*tokens: str) -> bool:
    """Whether none of these tokens is a wildcard.

    NATS stores a message that somebody publishes on the subject `log.*.*`. Used as a filter, this subject matches all
    others, so that a purge with it would empty the stream.
    """
    return not any(token in {"*", ">"} for token in tokens)
