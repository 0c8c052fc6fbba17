"""Repeating a call while its server is unavailable."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import stamina

from stint.core.errors import BrokerUnavailableError, StintError, VaultUnavailableError
from stint.core.events import AnyEvent
from stint.ports import EventLog, Outcome

T = TypeVar("T")

Errors = type[StintError] | tuple[type[StintError], ...]

PATIENCE: Final = 120.0
"""Seconds that a started job waits for an unavailable Vault."""
LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts to reach an unavailable server."""


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    on: Errors = (BrokerUnavailableError, VaultUnavailableError),
    within: float | None = None,
) -> T:
    """Repeat a call while its server is unavailable: for ever, or for `within` seconds; then raise its error.

    The first repetition comes at once, further ones after growing, jittered pauses. Almost every call succeeds at once,
    and does not pay for a retry's bookkeeping.
    """
    try:
        return await call()
    except on:
        pass
    again = stamina.AsyncRetryingCaller(
        attempts=None, timeout=within, wait_initial=0.05, wait_max=LONGEST_PAUSE, wait_jitter=0.2
    )
    return await again(on, call)


async def append_events(
    log: EventLog, token: str, job_id: str, *events: AnyEvent, after: int | None = None, unless: str = ""
) -> bool:
    """Append, and repeat the very same events until it is known whether they are in the log; returns whether they are.

    They are not if other events came first. For `after` and `unless` see `EventLog.append`.
    """

    async def once() -> bool:
        outcome = await log.append(token, job_id, *events, after=after, unless=unless)
        if outcome is Outcome.UNKNOWN:
            raise BrokerUnavailableError
        return outcome is Outcome.WON

    return await retry(once, on=BrokerUnavailableError)
