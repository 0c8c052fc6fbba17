"""What the API's tests share: a real app on real servers."""

import os
import secrets
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from stint.core.codec import encode
from stint.core.events import AnyEvent
from stint.core.job import Job
from stint.core.view import JobView
from stint.jetstream import Broker, JetStreamViews
from stint.ports import Outcome
from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint.vault import AppRoleSession, Vault
from stint.vault.policies import CLIENT, OPERATOR
from stint.vault.setup import client_token
from stint_api.__main__ import NO_STREAMS, build
from stint_api.app import create_app
from stint_api.services import Services
from tests.support.answers import json_of
from tests.support.brokers import loaded
from tests.support.servers import PLAIN, BaoProcess, OpenBao, ServerProcess, running
from tests.support.vault_bench import approle_token, set_up
from tests.support.waiting import until, until_true

SEALED = "vault:v1:c2VhbGVk"
BODY = {"qname": "deploys", "wrap_secret_id": "not-looked-at", "payload": SEALED}


class Clock:
    def __init__(self) -> None:
        self._now = 1000.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


@dataclass(frozen=True)
class Bench:
    """A Vault that is set up, a client's token, and an API on them and on a NATS."""

    vault: Vault
    root: str
    token: str
    broker: Broker
    parts: Services
    app: FastAPI
    http: httpx.AsyncClient
    clock: Clock

    def client(self, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """Another client of the same app, without a token."""
        return client_of(self.app, headers)

    def another(self, **parts: Any) -> httpx.AsyncClient:
        """A client, with the same token, of another app on the same servers, some of whose parts are these."""
        return client_of(create_app(replace(self.parts, **parts)), self.http.headers)

    async def load(self, job_id: str) -> Job:
        return await loaded(self.parts.log, job_id)

    async def status_with(self, token: str) -> int:
        return (await self.http.get("/v1/api/job", headers={"X-Auth-Token": token})).status_code

    @property
    def views(self) -> JetStreamViews:
        return JetStreamViews(self.broker)

    async def put_view(self, job: JobView) -> None:
        stored = await self.views.get(job.job_id)
        revision = stored.revision if stored else 0
        assert await self.views.put(job.job_id, encode(job), revision=revision, ttl=None)

    async def admin(self, request: Any) -> Any:
        return await self.vault.call(self.root, request)

    async def limited_token(self, uses: int, policies: tuple[str, ...] = ("default",)) -> str:
        answer = await self.admin(lambda c: c.auth.token.create(policies=list(policies), num_uses=uses, ttl="5m"))
        return str(answer["auth"]["client_token"])

    async def token_with(self, *rules: str, uses: int = 0, name: str = "") -> str:
        """A token with a policy of its own that has these rules."""
        name = name or f"of-a-test-{secrets.token_hex(8)}"
        await self.admin(lambda client: client.sys.create_or_update_policy(name, "\n".join(rules)))
        return await self.limited_token(uses, ("default", name))

    async def role_with(self, policy: str) -> str:
        """The name of a new AppRole."""
        role = secret().lower()
        await self.admin(lambda c: c.auth.approle.create_or_update_approle(role, token_policies=[policy]))
        return role

    async def logged_in(self, role: str) -> str:
        """Another token of the identity that has this AppRole."""
        return await approle_token(self.vault, self.root, role)

    async def cubbyhole(self, fields: Mapping[str, Any] | None, uses: int = 2) -> str:
        """A token with something in its cubbyhole, which leaves it `uses` - 1."""
        token = await self.limited_token(uses)
        if fields is not None:
            await self.vault.call(token, lambda c: c.adapter.post("/v1/cubbyhole/job", json=dict(fields)))
        return token

    async def happened(self, *facts: AnyEvent) -> str:
        """The id of a job in whose log these facts follow the submission."""
        job_id = await self.submitted()
        for fact in facts:
            assert await self.parts.log.append((await self.load(job_id)).token, job_id, fact) is Outcome.WON
        return job_id

    async def submit(self, **fields: Any) -> httpx.Response:
        return await self.http.post("/v1/api/job", json={**BODY, **fields})

    async def submitted(self, **fields: Any) -> str:
        return str(json_of(await self.submit(**fields))["_id"])


@asynccontextmanager
async def api(nats_url: str, openbao: OpenBao | BaoProcess, **settings: str) -> AsyncIterator[Bench]:
    """The app as its own `__main__` builds it, driven without a socket, once it can list and store jobs."""
    async with starting_api(nats_url, openbao, **settings) as bench:
        await bench.parts.index.ready.wait()
        await until_true(lambda: bench.parts.background.missing() != NO_STREAMS)
        yield bench


@asynccontextmanager
async def starting_api(nats_url: str, openbao: OpenBao | BaoProcess, **settings: str) -> AsyncIterator[Bench]:
    """The same, from its first moment."""
    address, root = openbao.address, openbao.root_token
    config = load(ApiSettings, await service_environ(nats_url, openbao) | settings)
    vault, broker = Vault(address), Broker(nats_url)
    session = AppRoleSession(vault, config.api_role_id, config.api_secret_id.get_secret_value())
    clock = Clock()
    parts = replace(build(config, broker, vault, session), monotonic=clock)
    app = create_app(parts)
    token = await client_token(address, root, policies=(CLIENT, OPERATOR))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(client_of(app, {"X-Auth-Token": token}))
        broker.start()
        stack.push_async_callback(broker.close)
        await stack.enter_async_context(vault)
        await stack.enter_async_context(parts.lookup_vault)
        await stack.enter_async_context(parts.oidc_vault)
        await stack.enter_async_context(parts.background.running())
        yield Bench(vault, root, token, broker, parts, app, http, clock)


def client_of(app: FastAPI, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A client of an app in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=headers)


@dataclass
class ApiProcess(ServerProcess):
    """The API as a process of its own."""

    environ: dict[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""

    @property
    def url(self) -> str:
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.port}"

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        (self.data_dir / "port").unlink(missing_ok=True)
        own = {"STINT_PORT": str(self.port), "STINT_PORT_REPORT": str(self.data_dir / "port")}  # STINT_PORT_FILE wins
        return [sys.executable, "-m", "stint_api"], {**self.environ, **own}

    async def _ready(self) -> bool:
        try:
            self.port = int((self.data_dir / "port").read_text())
            verify = ssl.create_default_context(cafile=self.ca) if self.ca else PLAIN
            async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
                return (await client.get(f"{self.url}/healthz")).status_code == httpx.codes.OK
        except (FileNotFoundError, httpx.TransportError):
            return False

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


Api = tuple[ApiProcess, httpx.AsyncClient]


@asynccontextmanager
async def api_process(
    folder: Path, nats_url: str, openbao: OpenBao | BaoProcess, **settings: str
) -> AsyncIterator[Api]:
    """An API as a process, once it is ready, and a client that may do everything."""
    environ = await service_environ(nats_url, openbao) | settings
    token = await client_token(openbao.address, openbao.root_token, policies=(CLIENT, OPERATOR))
    kept = httpx.Limits(keepalive_expiry=60)  # of a busy machine 5 seconds are gone soon; the API keeps them for 75
    async with (
        running(server := ApiProcess(folder, environ=environ)),
        httpx.AsyncClient(
            base_url=server.url, headers={"X-Auth-Token": token}, trust_env=False, timeout=100, limits=kept
        ) as http,
    ):
        await becomes(http, "/readyz", 200)
        yield server, http


async def becomes(http: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    """The first answer that has this status."""
    return await until(lambda: http.get(path), lambda answer: answer.status_code == status)


async def submitted(http: httpx.AsyncClient) -> str:
    """The id of a job that nobody will be able to open."""
    return str(json_of(await http.post("/v1/api/job", json=BODY))["_id"])


async def service_environ(nats_url: str, openbao: OpenBao | BaoProcess) -> dict[str, str]:
    """The settings of a service, on a Vault that is set up."""
    return {"NATS_URL": nats_url, "VAULT_ADDR": openbao.address, **await set_up(openbao)}


def secret() -> str:
    """A value that can be found wherever it went."""
    return f"sEcReT{secrets.token_hex(8)}"
