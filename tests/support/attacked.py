"""A whole stack that some users of its NATS attack, with the configuration that `stint nats-config` writes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from stint.cli.dev.servers import PUBLISHER, SUBSCRIBER
from tests.support.accounts import Accounts, accepted
from tests.support.servers import OpenBao, ready
from tests.support.stack import Stack, alive, started
from tests.support.waiting import until, until_true

LOGINS = "600"
"""Seconds for which a login with a token is good."""


@dataclass
class Attacked:
    """A stack, and what must be as before when the attacks are over."""

    stack: Stack
    pids: Sequence[int]

    @property
    def url(self) -> str:
        """Of NATS."""
        return self.stack.env["NATS_URL"]

    @property
    def openbao(self) -> OpenBao:
        return OpenBao(address=self.stack.env["VAULT_ADDR"], root_token=self.stack.env["VAULT_TOKEN"])

    def log(self, name: str) -> str:
        """What one of its processes has written."""
        return (self.stack.data_dir / "log" / f"{name}.log").read_text()

    @property
    def keys(self) -> Path:
        """The folder of the keys of NATS' users."""
        return self.stack.data_dir / "nats"

    async def configure(self, accounts: Accounts) -> None:
        """Give NATS further users, as an operator does: write its configuration again, and restart it with that."""
        listen = self.url.removeprefix("nats://")
        own = ("--listen", listen, "--name", "stint-dev", "--publisher", PUBLISHER, "--subscriber", SUBSCRIBER)
        made = await self.stack.run("nats-config", self.keys, *own, *accounts.options, "--update")
        assert made.code == 0, made.err
        await self.stack.restart("nats-auth-1")
        await self.stack.restart("nats-1")
        await until_true(lambda: self.log("nats-1").count("Server is ready") > 1)
        async with self.stack.http() as http:
            await until(lambda: ready(http))
        publisher = accounts.access(self.url, next(iter(accounts.publishers)))
        await until(lambda: accepted(publisher))  # which takes a `nats-auth` that is connected again
        self.pids = sorted(self.stack.pids())

    async def works(self, *queues: str) -> None:
        """Jobs of these queues run, the API says that all is well, no process has died, and none has stumbled."""
        for job_id in [await self.stack.submit("true", qname=queue) for queue in queues]:
            job = await self.stack.end(job_id)
            assert (job["status"], job["output_complete"]) == ("success", True), job
        async with self.stack.http() as http:
            health = await http.get("/v1/api/health")
            assert (health.status_code, health.json()["state"]) == (httpx.codes.OK, "active"), health.text
            assert await ready(http)
        assert alive(self.pids) == sorted(self.stack.pids()) == self.pids
        for path in (self.stack.data_dir / "log").iterdir():
            assert "Traceback" not in (said := path.read_text()), said


@asynccontextmanager
async def attacked(folder: Path, *options: str, **env: str) -> AsyncIterator[Attacked]:
    """A stack that nobody attacks yet; `options` are those of `stint dev`."""
    async with started(folder, *options, STINT_NATS_AUTH_SECONDS=LOGINS, **env) as stack:
        yield Attacked(stack, sorted(stack.pids()))
