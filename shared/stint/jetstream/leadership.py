"""Proves that a message does not exist: only a leader that a majority currently follows can say so."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from stint.core.errors import BrokerUnavailableError
from stint.jetstream.answers import check
from stint.jetstream.broker import Broker

FOLLOWED: Final = 3.0
"""Seconds since a replica last answered its leader. Less than 4, after which replicas may elect another one; a replica
answers once a second, and up to 1.4 were measured in an idle stream."""

UNPROVEN: Final = "NATS has no leader that can say what is not there. Try again."

_SECOND: Final = 10**9


async def is_absent(
    broker: Broker, stream: str, subject: str, *, counts: Callable[[str], bool] = lambda _: True
) -> bool:
    """Whether it is proven that the stream has no message on these subjects, except on those that do not count.

    A server that was frozen may believe for a moment that it still leads after another was elected, and not know what
    that one has acknowledged. Therefore the count and the proof of leadership must come from one answer.

    Raises:
        BrokerUnavailableError: it cannot be proven.
    """
    info = check(await broker.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject}, FOLLOWED))
    if any(map(counts, info["state"].get("subjects") or ())):
        return False
    if not _is_followed(info.get("cluster") or {}):
        raise BrokerUnavailableError(UNPROVEN)
    return True


def _is_followed(cluster: Mapping[str, Any]) -> bool:
    """Whether a majority has answered recently. A single server is its own majority."""
    replicas = cluster.get("replicas") or []
    since_answers: list[int] = [replica.get("active", 0) for replica in replicas]  # 0: never heard of
    following = sum(0 < since < FOLLOWED * _SECOND for since in since_answers)
    return 1 + following > (1 + len(replicas)) / 2
