"""Runner pools whose queues are patterns: a login permits the queues that match and are in use."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from stint.core.errors import BrokerUnavailableError
from stint.core.names.patterns import ALL_QUEUES, QueuePatterns
from stint.core.names.streams import consumer_name
from stint.core.names.subjects import INBOX
from stint.jetstream import Broker, pending_jobs, queues_in_use
from stint.natsauth.config import permissions
from stint.natsauth.requests import Role
from stint.natsauth.roles import pool_with_jobs
from stint.natsauth.users import KeyUser

MOST: Final = 300
"""Queues in a login, unless more are asked for or have a job that somebody has. NATS keeps 15 kB of each."""
LOOK_WAIT: Final = 0.8
"""Seconds for what NATS says of queues. A cluster that has lost a server does not say it for up to ten."""
_SPELLED: Final = (4 / 3) ** 2
"""What the permissions grow by in an answer to the server, which is base64 of base64."""
_ROOM: Final = 8 * 1024
"""Bytes of an answer for everything else."""


class PoolQueues:
    """Knows the queues in use, as NATS said last."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._had: Mapping[str, bool] = {}
        self._pending: Mapping[str, int] | None = None

    async def role(self, pool: KeyUser, asked: str) -> Role:
        """What a runner of the pool may do that asks for the queues of these consumers.

        If not all queues fit, these come first, then those whose job somebody has, and then those that had one lately.

        Raises:
            BrokerUnavailableError: NATS has not yet said which queues have jobs.
        """
        await asyncio.gather(self._look_at_consumers(), self._look_at_jobs())
        if self._pending is None:
            raise BrokerUnavailableError
        served, wanted, had = QueuePatterns.of(pool.queues), frozenset(asked.split()), self._had
        tokens = [token for token in {**had, **self._pending} if served.serves_token(token)]
        first = {token for token in tokens if consumer_name(token) in wanted}
        held = first | {token for token in tokens if had.get(token)}
        tokens.sort(key=lambda token: (token not in first, token not in held, token not in had))
        return pool_with_jobs(pool.name, self._fitting(pool, tokens[: max(MOST, len(held))]))

    def _fitting(self, pool: KeyUser, tokens: Sequence[str]) -> Sequence[str]:
        room = (self._broker.client.max_payload - _ROOM) / _SPELLED
        while tokens and (size := _size(pool, tokens)) > room:
            tokens = tokens[: int(len(tokens) * room / size)]
        return tokens

    async def _look_at_consumers(self) -> None:
        with suppress(TimeoutError, BrokerUnavailableError):
            async with asyncio.timeout(LOOK_WAIT):
                self._had = await queues_in_use(self._broker)

    async def _look_at_jobs(self) -> None:
        with suppress(TimeoutError, BrokerUnavailableError):
            async with asyncio.timeout(LOOK_WAIT):
                self._pending = await pending_jobs(self._broker, ALL_QUEUES)


def _size(pool: KeyUser, tokens: Sequence[str]) -> int:
    return len(msgspec.json.encode(permissions(pool_with_jobs(pool.name, tokens), INBOX)))
