"""Calls that Vault accepts only once: the unwrapping of a secret id, and the login with it."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from stint.core.errors import JobFailedError, VaultError, VaultUnavailableError
from stint_runner.retry import PATIENCE, retry

T = TypeVar("T")

MAYBE_SPENT: Final = "Vault did not answer, and the wrapped secret id may be spent: submit the job again."
_NOT_CARRIED_OUT: Final = frozenset({412, 429, 503})
"""Statuses of an unavailable Vault that say that nothing was done: it is behind, busy, or sealed."""


async def spend(call: Callable[[], Awaitable[T]], *, there: Callable[[], Awaitable[object]]) -> T:
    """Make such a call, and repeat it while Vault is unavailable.

    A frozen Vault executes the call when it resumes, although its caller has given up. So the call is repeated only
    after Vault has answered `there`: an earlier repetition would queue behind the first call, and be refused.

    `there` must spend nothing, and raise a VaultError if the call cannot be made.

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
        return await retry(once, on=VaultUnavailableError, within=PATIENCE)
    except VaultError:
        if doubtful:
            raise JobFailedError(MAYBE_SPENT, reason="secrets") from None
        raise
