"""NATS with an account for each role, and its users' access."""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client
from typer.testing import CliRunner

from stint.cli.app import app
from stint.core.names.subjects import JS_PREFIX
from stint.jetstream import Access, Broker, declare
from stint.natsauth.command import POOLS, PUBLISHERS, SUBSCRIBERS
from stint.natsauth.keys import ISSUER_FILE, USERS_FILE, XKEY_FILE, public_key
from stint.natsauth.roles import CALLOUT, OPERATOR, RUNNERS, SEED_FILE
from stint.vault import Vault, queue_path
from stint.vault.setup import client_token
from tests.support.brokers import started
from tests.support.servers import BaoProcess, NatsProcess, OpenBao, ServiceProcess, running, servers_of_cluster
from tests.support.vault_bench import approle_token, as_root, set_up
from tests.support.waiting import PATIENCE

_CALLOUT_FILES = (ISSUER_FILE, XKEY_FILE, USERS_FILE)


@dataclass(frozen=True)
class Accounts:
    """Users of NATS whose keys `stint nats-config` makes in a folder: publishers with their queues, pools, others.

    Attributes:
        auth: whether `stint nats-auth` decides the logins of others.
        tokens: publishers with Vault tokens instead of keys, each with its queues and its token.
        runners: runners with keys of their own, as `runners/NAME`.
        pools: the queues, or patterns of them, that each serves.
    """

    folder: Path
    publishers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    subscribers: Sequence[str] = ()
    auth: bool = False
    tokens: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    runners: Sequence[str] = ()
    pools: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """The users, as `stint nats-config` is told of them."""
        return [
            *(f"--publisher={name}={','.join(queues)}" for name, queues in self.publishers.items()),
            *(f"--subscriber={name}" for name in self.subscribers),
            *(f"--runner={name.removeprefix(RUNNERS)}" for name in self.runners),
            *(f"--pool={name}={served}" for name, served in self.pools.items()),
        ]

    @property
    def settings(self) -> str:
        """For the server's configuration."""
        auth = "--auth" if self.auth else "--no-auth"
        arguments = ["nats-config", str(self.folder), "--accounts-only", auth, "--update", *self.options]
        made = CliRunner().invoke(app, arguments)
        assert made.exit_code == 0, made.output
        return (self.folder / "accounts.conf").read_text()

    def seed_file(self, user: str) -> Path:
        """The file with the seed of this user's key."""
        folders = ((PUBLISHERS, self.publishers), (SUBSCRIBERS, self.subscribers), (POOLS, self.pools))
        folder = next((name for name, users in folders if user in users), "")
        return self.folder / folder / user / SEED_FILE

    def key(self, user: str) -> str:
        """The public half of this user's key."""
        return public_key(self.seed_file(user).parent)

    def environ(self, user: str) -> dict[str, str]:
        """The settings of a service that is this user."""
        own = {"STINT_NATS_NKEY_FILE": str(self.seed_file(user))}
        if user != OPERATOR:
            own["STINT_JS_PREFIX"] = JS_PREFIX
        if user in {*self.publishers, *self.subscribers}:
            own["STINT_NATS_INBOX_PREFIX"] = f"_INBOX.{user}"
        if user == CALLOUT:
            own |= {f"{name}_FILE": str(self.folder / CALLOUT / name) for name in _CALLOUT_FILES}
        return own

    def access(self, url: str, user: str) -> Access:
        if user in self.tokens:
            listed, token = self.tokens[user]
            return Access(url=url, user=listed, password=token)
        inbox = self.environ(user).get("STINT_NATS_INBOX_PREFIX", "")
        return Access(url=url, nkey=self.seed_file(user).read_text(), inbox=inbox)

    @asynccontextmanager
    async def declared(self, folder: Path) -> AsyncIterator["Guarded"]:
        """A server with these accounts, on which a projector has declared the streams."""
        async with running(server := Guarded(folder, accounts=self)):
            async with server.connected("projector") as projector:
                await declare(projector)
            yield server

    def cluster(self, folder: Path, size: int = 2) -> Iterator["Guarded"]:
        """Servers of a cluster with these accounts, which are not started yet."""
        for server in servers_of_cluster(folder, [f"server-{number}" for number in range(size)]):
            yield Guarded(server.data_dir, settings=server.settings, accounts=self)

    @asynccontextmanager
    async def connected(self, url: str, user: str) -> AsyncIterator[Broker]:
        prefix = "$JS.API" if user == OPERATOR else JS_PREFIX
        async with connected(self.access(url, user), name=user, prefix=prefix) as broker:
            yield broker


@dataclass
class Guarded(NatsProcess):
    """A server that has these accounts, besides its other settings."""

    accounts: Accounts = field(kw_only=True)

    def __post_init__(self) -> None:
        self.settings += f"\n{self.accounts.settings}"

    def access(self, user: str) -> Access:
        return self.accounts.access(self.url, user)

    def connected(self, user: str) -> AbstractAsyncContextManager[Broker]:
        return self.accounts.connected(self.url, user)


@asynccontextmanager
async def connected(access: Access, *, name: str = "stint", prefix: str = JS_PREFIX) -> AsyncIterator[Broker]:
    async with started(access, name, prefix=prefix) as broker:
        await broker.wait_connected()
        yield broker


async def _ignored(_error: Exception) -> None:
    """The client would log it with a traceback."""


@asynccontextmanager
async def logged_in(
    url: str | list[str], heard: Callable[[Exception], Awaitable[None]] = _ignored, **login: Any
) -> AsyncIterator[Client]:
    """A client of NATS' own library, which is connected once. `heard` gets what the server denies it.

    By itself it would wait 0.1 s longer than the server does before that refuses a login.
    """
    client = Client()
    try:
        await client.connect(url, error_cb=heard, allow_reconnect=False, connect_timeout=int(PATIENCE), **login)
        if not client.is_connected:  # nats-py also returns if the server closes the connection without a word
            raise nats.errors.AuthorizationError
        yield client
    finally:
        await client.close()


async def accepted(access: Access) -> bool:
    """Whether NATS lets this user in."""
    try:
        async with logged_in(access.servers, **access.options()):
            return True
    except nats.errors.Error:
        return False


class NatsAuth(ServiceProcess):
    MODULE = ("stint", CALLOUT)


@asynccontextmanager
async def nats_auth(
    server: Guarded, openbao: OpenBao | BaoProcess, folder: Path, **settings: str
) -> AsyncIterator[NatsAuth]:
    """A process that decides logins at this server, by the policies of this Vault, which is set up."""
    await set_up(openbao)
    environ = {**server.accounts.environ(CALLOUT), "STINT_NATS_URL": server.url, "VAULT_ADDR": openbao.address}
    environ |= {"STINT_NATS_AUTH_SECONDS": "600", "PATH": os.defpath, **settings}
    async with running(process := NatsAuth(folder, environ=environ)):
        yield process


async def token_for(openbao: OpenBao | BaoProcess, capabilities: Mapping[str, Sequence[str]], ttl: str = "24h") -> str:
    """A token with these capabilities on the paths of these queues, and the policy `stint-publisher`."""
    rules = {queue_path(qname): {"capabilities": list(allowed)} for qname, allowed in capabilities.items()}
    name = await write_policy(openbao, secrets.token_hex(8), rules)
    return await client_token(openbao.address, openbao.root_token, policies=["stint-publisher", name], ttl=ttl)


async def write_policy(openbao: OpenBao | BaoProcess, name: str, rules: Mapping[str, Any]) -> str:
    """Write a policy; returns its name."""
    await as_root(openbao, lambda client: client.sys.create_or_update_acl_policy(name, {"path": dict(rules)}))
    return name


@dataclass(frozen=True)
class VaultIdentity:
    """An identity of Vault, by its AppRole, that may do everything in one queue, and seal jobs."""

    openbao: OpenBao | BaoProcess
    role: str

    @classmethod
    async def new(cls, openbao: OpenBao | BaoProcess, qname: str) -> "VaultIdentity":
        await set_up(openbao)
        rules = {queue_path(qname): {"capabilities": ["create", "read", "update"]}}
        name = await write_policy(openbao, secrets.token_hex(8), rules)
        policies = ["default", "stint-publisher", name]
        await as_root(openbao, lambda c: c.auth.approle.create_or_update_approle(name, token_policies=policies))
        return cls(openbao, name)

    async def token(self) -> str:
        """Another token of this identity."""
        return await approle_token(Vault(self.openbao.address), self.openbao.root_token, self.role)
