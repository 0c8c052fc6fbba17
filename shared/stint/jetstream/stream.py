"""Reads and purges one stream."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from nats.aio.msg import Msg

from stint.jetstream.broker import Broker
from stint.jetstream.protocol import ErrorCode, RawMessage, check, error_code, raw_message, sequence_of
from stint.ports import Place

BATCH: Final = 256
"""Messages that one read asks for."""
BATCH_BYTES: Final = 512 * 1024
"""Bytes that one read asks for, and that are held while the reader waits, as for a slow client."""


class Stream:
    """One stream, or a KV bucket's. nats-py reads one message at a time, and cannot list subjects page by page."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._name = name

    async def info(self, request: Mapping[str, Any] | None = None, wait: float | None = None) -> dict[str, Any]:
        """The stream's state, by its leader. `wait` as in `Broker.request`."""
        return check(await self._broker.api(f"STREAM.INFO.{self._name}", request, wait))

    async def get(self, request: Mapping[str, Any], wait: float | None = None) -> RawMessage | None:
        """One message from the stream's leader, which has everything that was acknowledged. None if there is none."""
        answer = await self._broker.api(f"STREAM.MSG.GET.{self._name}", request, wait)
        return None if error_code(answer) == ErrorCode.NO_MESSAGE else raw_message(check(answer)["message"])

    async def last(self, pattern: str, wait: float | None = None) -> RawMessage | None:
        """The last message on these subjects, from the leader."""
        return await self.get({"last_by_subj": pattern}, wait)

    async def last_of_each(self, patterns: list[str]) -> list[Msg]:
        """The last message on each of these subjects, from any replica.

        Raises:
            BrokerRefusedError: there are more than 1024.
        """
        return await self._broker.direct_get(self._name, {"multi_last": patterns})

    async def page(self, pattern: str, *, after: int = 0) -> list[Msg]:
        """The next messages on these subjects with a sequence above `after`, from any replica. Empty at the end."""
        request = {"seq": after + 1, "next_by_subj": pattern, "batch": BATCH, "max_bytes": BATCH_BYTES}
        return await self._broker.direct_get(self._name, request)

    async def pages(self, pattern: str, *, after: int = 0) -> AsyncIterator[list[Msg]]:
        """All messages on these subjects with a sequence above `after`, as `page` returns them."""
        while messages := await self.page(pattern, after=after):
            yield messages
            after = sequence_of(messages[-1])

    async def subjects(self, pattern: str) -> AsyncIterator[str]:
        """The subjects under `pattern` that have messages, in pages of 100,000. Costs 3 ms for 1000."""
        offset = 0
        while True:
            answer = await self.info({"subjects_filter": pattern, "offset": offset})
            subjects: dict[str, Any] = answer["state"].get("subjects") or {}
            for subject in subjects:
                yield subject
            offset += len(subjects)
            if not subjects or offset >= answer.get("total", 0):
                return

    async def places(self, pattern: str) -> set[Place]:
        """The second and third token of the subjects under `pattern` that have messages."""
        tokens = [subject.split(".")[1:3] async for subject in self.subjects(pattern)]
        return {Place(*pair) for pair in tokens if is_literal(*pair)}

    async def purge(self, pattern: str, *, through: int | None = None) -> None:
        """Remove the messages on these subjects; with `through` only those up to that sequence."""
        request: dict[str, Any] = {"filter": pattern}
        if through is not None:
            request["seq"] = through + 1
        check(await self._broker.api(f"STREAM.PURGE.{self._name}", request))


def is_literal(*tokens: str) -> bool:
    """Whether none of these tokens is a wildcard.

    NATS stores a message that somebody publishes on the subject `log.*.*`. Used as a filter, this subject matches all
    others, so that a purge with it would empty the stream.
    """
    return not any(token in {"*", ">"} for token in tokens)
