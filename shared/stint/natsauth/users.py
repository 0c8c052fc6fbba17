"""The users that the options of `stint nats-config` name, and the queues of each.

All functions that read an option raise a ConfigError for a name or a queue that cannot be.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from stint.core.errors import ConfigError, InvalidQueueNameError
from stint.core.names.ids import queue_token
from stint.core.names.patterns import QueuePatterns
from stint.natsauth.roles import OPERATOR, RUNNERS, SERVICES
from stint.process.settings import RUNNER_ID

T = TypeVar("T")


def runner_user(name: str) -> str:
    """The user of a runner with a key of its own."""
    if not RUNNER_ID.fullmatch(name):
        raise ConfigError("--runner: a runner's name has 1 to 128 letters, digits, - and _.")
    return f"{RUNNERS}{name}"


def by_name(option: str, users: Iterable[tuple[str, T]]) -> dict[str, T]:
    """What each of these users may use; each must be named once."""
    found: dict[str, T] = {}
    for name, served in users:
        if name in found:
            raise ConfigError(f"{option} {name}: it is there twice. Name all of its queues at once.")
        found[name] = served
    return found


def publisher_named(text: str) -> tuple[str, Sequence[str]]:
    """A publisher, and the queues to which it may submit."""
    name, _, listed = text.partition("=")
    try:
        queues = {queue_token(queue): queue for queue in listed.split(",")}  # NATS refuses what is granted twice
    except InvalidQueueNameError as error:
        raise ConfigError(f"--publisher {name}: {error.sentence}") from None
    if not _is_name(name) or name in {OPERATOR, *(role.name for role in SERVICES)} or not listed:
        raise ConfigError("--publisher: NAME=QUEUE, where NAME has letters, digits and _ and is not that of a service.")
    return name, [*queues.values()]


def subscriber_name(text: str) -> str:
    """The name of a subscriber, which is part of subjects."""
    if not _is_name(text):
        raise ConfigError("A subscriber's name has letters, digits and _.")
    return text


def pool_named(text: str) -> tuple[str, QueuePatterns]:
    """A pool of runners, and the queues that they serve."""
    name, _, listed = text.partition("=")
    served = QueuePatterns.parse(listed)
    try:
        for qname in served.names or ():
            queue_token(qname)
    except InvalidQueueNameError as error:
        raise ConfigError(f"--pool {name}: {error.sentence}") from None
    if not _is_name(name) or name != name.lower() or not served.patterns:
        raise ConfigError("--pool: NAME=QUEUE, where NAME has lower-case letters, digits and _.")
    return name, served


class KeyUser(msgspec.Struct, frozen=True):
    """A user with a key whose login the service decides."""

    name: str
    queues: Sequence[str]  # to which a publisher may submit, or the patterns of those that a pool serves
    pool: bool = False  # whether it is a pool


def decided_users(
    keys: Mapping[str, str], publishers: Mapping[str, Sequence[str]], pools: Mapping[str, QueuePatterns]
) -> dict[str, KeyUser]:
    """The users whose logins the service decides, by their public nkeys: publishers, and pools with patterns.

    `keys` are the public nkeys of all users by name.
    """
    users = [KeyUser(name, queues) for name, queues in publishers.items()]
    users += [KeyUser(name, served.patterns, pool=True) for name, served in pools.items() if served.names is None]
    return {keys[user.name]: user for user in users}


def _is_name(text: str) -> bool:
    """Whether it has ASCII letters, digits and _ only, and no digit first. The server's files have no other text."""
    return text.isascii() and text.isidentifier()
