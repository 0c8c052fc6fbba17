"""Repeating a call while its server is unavailable."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import stamina

from stint.core.errors import BrokerUnavailableError, JobFailedError, StintError, VaultError, VaultUnavailableError
from stint.core.events import AnyEvent
from stint.ports import EventLog, Outcome

T = TypeVar("T")

Errors = type[StintError] | tuple[type[StintError], ...]

PATIENCE: Final = 120.0  # seconds that a started job waits for an unavailable Vault
LONGEST_PAUSE: Final = 2.0  # seconds between two attempts to reach an unavailable server
MAYBE_SPENT: Final = "Vault did not answer, and the wrapped secret id may be spent: submit the job again."
_NOT_CARRIED_OUT: Final = frozenset({412, 429, 503})
"""Statuses of an unavailable Vault that say that nothing was done: it is behind, busy, or sealed."""


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    on: Errors = (BrokerUnavailableError, VaultUnavailableError),
    within: float | None = None,
    attempts: int | None = None,
) -> T:
    """Repeat a call while its server is unavailable: for ever, for `within` seconds, or so often; then raise its error.

    The first repetition comes at once, further ones after growing, jittered pauses. Almost every call succeeds at once,
    and does not pay for a retry's bookkeeping.
    """
    try:
        return await call()
    except on:
        pass
    again = stamina.AsyncRetryingCaller(
        attempts=attempts, timeout=within, wait_initial=0.05, wait_max=LONGEST_PAUSE, wait_jitter=0.2
    )
    return await again(on, call)


async def ask_vault(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call for a started job while Vault is unavailable; then raise its error."""
    return await retry(call, on=VaultUnavailableError, within=PATIENCE)


async def spend(call: Callable[[], Awaitable[T]], *, there: Callable[[], Awaitable[object]]) -> T:
    """Make a call that Vault accepts only once, and repeat it while Vault is unavailable.

    A frozen Vault executes the call when it resumes, although its caller has given up. So the call is repeated only
    after Vault has answered `there`: an earlier repetition would queue behind the first call, and be refused. `there`
    must spend nothing, and raise a VaultError if the call cannot be made.

    Raises:
        VaultUnavailableError: Vault was unavailable for too long, and nothing was spent.
        JobFailedError: it is not known whether Vault executed an unanswered call.
        VaultError: Vault refused, and there is no earlier call to blame for it.
    """
    doubtful = False

    async def once() -> T:
        nonlocal doubtful
        if doubtful:
            await there()
        try:
            return await call()
        except VaultUnavailableError as error:
            doubtful = doubtful or error.code not in _NOT_CARRIED_OUT
            raise

    try:
        return await ask_vault(once)
    except VaultError:
        if doubtful:
            raise JobFailedError(MAYBE_SPENT, reason="secrets") from None
        raise


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
