"""How many logins of one owner are good at a time. NATS limits an account's connections, and not a user's."""

import time
from collections.abc import Callable
from typing import Final

from stint.natsauth.callout.rule import LoginRefusedError

TOO_MANY: Final = "The owner of the token has too many connections, or has connected too often in the last seconds."


class Logins:
    """Counts logins until they end. NATS does not tell of connections that are closed sooner."""

    def __init__(self, most: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._ends: dict[str, list[float]] = {}

    def count(self, owner: str, seconds: float) -> None:
        """Count a login that is good for so long.

        Raises:
            LoginRefusedError: the owner has too many.
        """
        now = self._monotonic()
        self._ends = {name: left for name, ends in self._ends.items() if (left := [end for end in ends if end > now])}
        ends = self._ends.setdefault(owner, [])
        if len(ends) >= self._most:
            raise LoginRefusedError(TOO_MANY)
        ends.append(now + seconds)
