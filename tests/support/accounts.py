"""NATS with an account for each role, and its users' access."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stint.core.subjects import JS_PREFIX
from stint.jetstream import Access, Broker
from stint.natsauth.config import accounts, rendered
from stint.natsauth.keys import public_key
from stint.natsauth.roles import OPERATOR, SEED_FILE, SERVICES


@dataclass(frozen=True)
class Accounts:
    """Attributes:
    folder: of the keys.
    publishers: the queues of each publisher.
    """

    folder: Path
    publishers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def settings(self) -> str:
        """For the server's configuration."""
        users = [OPERATOR, *(role.name for role in SERVICES), *self.publishers]
        keys = {user: public_key(self.folder / user) for user in users}
        return rendered({"accounts": accounts(keys, self.publishers)})

    def environ(self, user: str) -> dict[str, str]:
        """The settings of a service that is this user."""
        own = {"STINT_NATS_NKEY_FILE": str(self.folder / user / SEED_FILE)}
        if user != OPERATOR:
            own["STINT_JS_PREFIX"] = JS_PREFIX
        if user in self.publishers:
            own["STINT_NATS_INBOX_PREFIX"] = f"_INBOX.{user}"
        return own

    @asynccontextmanager
    async def connected(self, url: str, user: str) -> AsyncIterator[Broker]:
        """A connection of this user."""
        seed = (self.folder / user / SEED_FILE).read_text()
        inbox = f"_INBOX.{user}" if user in self.publishers else ""
        prefix = "$JS.API" if user == OPERATOR else JS_PREFIX
        broker = Broker(Access(url=url, nkey=seed, inbox=inbox), name=user, prefix=prefix)
        broker.start()
        await broker.wait_connected()
        try:
            yield broker
        finally:
            await broker.close()
