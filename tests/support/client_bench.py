"""A client's API, with a runner and a projector that the test plays."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from stint.client import Endpoints
from stint.core.codec import encode
from stint.core.events import Ended
from stint.core.names.ids import queue_token
from stint.core.names.streams import RUNNERS_BUCKET
from stint.core.names.subjects import kv_subject
from stint.core.view import view
from stint.jetstream import Broker, Bucket, JetStreamEventLog, JetStreamViews
from stint.natsauth.roles import OPERATOR
from tests.support import events
from tests.support.accounts import Accounts
from tests.support.api_bench import ApiProcess, api_process
from tests.support.brokers import connected, loaded
from tests.support.outputs import Played
from tests.support.servers import NatsProcess, OpenBao
from tests.support.stack import Result
from tests.support.terminals import Terminal, command, terminal
from tests.support.vault_bench import ROLE


@asynccontextmanager
async def opened(
    folder: Path, nats: NatsProcess, openbao: OpenBao, accounts: Accounts | None = None, **settings: str
) -> AsyncIterator["Bench"]:
    """An API of its own, and a client's way to it. With accounts the test itself is NATS' operator."""
    environ = {**(accounts.environ("api") if accounts else {}), **settings}
    own = accounts.connected(nats.url, OPERATOR) if accounts else connected(nats.url)
    async with api_process(folder, nats.url, openbao, **environ) as (server, http), own as broker:
        token = http.headers["X-Auth-Token"]
        yield Bench(server, Endpoints(url=server.url, vault_addr=openbao.address, token=token, role=ROLE), broker)


class Bench:
    def __init__(self, server: ApiProcess, where: Endpoints, broker: Broker) -> None:
        self.server, self.where, self.broker = server, where, broker
        self.log, self._views = JetStreamEventLog(broker), JetStreamViews(broker)

    def environment(self, **settings: str) -> dict[str, str]:
        """What the command line needs to find this API."""
        where = {"STINT_URL": self.where.url, "STINT_TOKEN": self.where.token, "VAULT_ADDR": self.where.vault_addr}
        return {"HOME": os.environ["HOME"], "STINT_ROLE": ROLE, "TERM": "xterm", **where, **settings}

    async def command(
        self, *arguments: str, stdin: bytes | None = None, settings: Mapping[str, str] | None = None
    ) -> Result:
        """Run a command in pipes, to its end."""
        return await command(self.environment(**settings or {}), *arguments, stdin=stdin)

    def terminal(self, *arguments: str, columns: int = 80, **settings: str) -> AbstractAsyncContextManager[Terminal]:
        """A command on a terminal of its own."""
        return terminal(self.environment(**settings), *arguments, columns=columns)

    async def run(
        self,
        queue: str,
        job_id: str,
        output: bytes = b"",
        code: int = 0,
        *,
        secrets: Mapping[str, int | None] | None = None,
    ) -> None:
        """Play the job's runner; `secrets` are those that the job got, with their versions."""
        job = Played(self.broker, queue_token(queue), job_id)
        await job.begin()
        await job.facts(msgspec.structs.replace(events.launched(), secrets=dict(secrets or {})))
        await job.write(*([("stdout", output)] if output else []))
        await job.end(*(("failed", "exit_code", code) if code else ()))

    async def write(self, queue: str, job_id: str, output: bytes) -> None:
        """Play a runner that starts the job, and stores its first output."""
        await Played(self.broker, queue_token(queue), job_id).begin(("stdout", output))

    async def runner(self, name: str, report: bytes = b"{}") -> None:
        """Play a runner that reports that it is alive."""
        await self.broker.publish(kv_subject(RUNNERS_BUCKET, name), report)

    async def leave(self, name: str) -> None:
        """Play a runner that stops."""
        await Bucket(self.broker, RUNNERS_BUCKET).delete(name)

    async def end(self, queue: str, job_id: str, ended: Ended, **fields: Any) -> None:
        """Play a runner that says this of the end."""
        job = Played(self.broker, queue_token(queue), job_id)
        await job.facts(events.started(), msgspec.structs.replace(ended, **fields))

    async def job_of(self, queue: str) -> str:
        """The id of the queue's first job, "" if it has none yet."""
        async for job_id in self.log.job_ids():
            job = await self.log.load(job_id)
            if job and job.token == queue_token(queue):
                return job_id
        return ""

    async def killed(self, job_id: str) -> bool:
        job = await self.log.load(job_id)
        return job is not None and job.kill_requested

    async def project(self, *job_ids: str) -> None:
        """Play the projector, as often as wanted."""
        for job_id in job_ids:
            job, stored = await loaded(self.log, job_id), await self._views.get(job_id)
            await self._views.put(job_id, encode(view(job)), revision=stored.revision if stored else 0, ttl=None)

    async def forget(self, job_id: str) -> None:
        """Play the janitor."""
        await self._views.delete(job_id)
