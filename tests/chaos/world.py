"""Real servers and services, each a process, each runner behind proxies of its own."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from stint.jetstream import Broker
from stint.vault.policies import CLIENT, OPERATOR
from stint.vault.setup import client_token
from stint_api.read.runners import JetStreamRunnerReports
from tests.chaos.docker_runner import TRUTH, TRUTH_DIR
from tests.chaos.plan import PLANT, ROOT, Plan
from tests.chaos.proxy import Proxy
from tests.chaos.scripted_engine import SCHEME, ScriptedEngine, scripted_engine
from tests.chaos.supervised import Supervised
from tests.support.accounts import Accounts
from tests.support.api_bench import service_environ
from tests.support.brokers import declare_anew
from tests.support.events import utc_now
from tests.support.ports import free_port
from tests.support.servers import READY, BaoProcess, NatsProcess, ready, running, servers_of_cluster
from tests.support.waiting import until

STARTED = 60.0
"""Seconds for services to start, of which a busy machine has many at a time."""


@dataclass
class World:
    """Everything that runs. `broker` is the harness's own connection, through no proxy; on Docker `engines` is empty.

    Jobs write into `truth`, whose name is `truth_for_jobs` where they run.
    """

    plan: Plan
    folder: Path
    accounts: Accounts
    nats: list[NatsProcess]
    bao: BaoProcess
    broker: Broker
    token: str = field(repr=False)
    image: str = "busybox"
    engines: list[ScriptedEngine] = field(default_factory=list)
    api_urls: list[str] = field(default_factory=list)
    apis: list[Supervised] = field(default_factory=list)
    projectors: list[Supervised] = field(default_factory=list)
    runners: list[Supervised] = field(default_factory=list)
    proxies: list[list[Proxy]] = field(default_factory=list)
    fleet: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def truth(self) -> Path:
        return self.folder / "truth"

    @property
    def truth_for_jobs(self) -> str:
        return TRUTH if self.plan.engine == "docker" else str(self.truth)

    @property
    def nats_url(self) -> str:
        return ",".join(server.url for server in self.nats)

    @property
    def services(self) -> list[Supervised]:
        return [*self.apis, *self.projectors, *self.runners]

    @property
    def runner_ids(self) -> list[str]:
        """Unlike those of any other world on this engine."""
        return [f"chaos-{os.getpid()}-{self.bao.port}-{number}" for number in range(self.plan.runners)]

    async def seal(self) -> None:
        """Vault answers nothing but that it is sealed."""
        await self._vault("/v1/sys/seal", {})

    async def unseal(self) -> None:
        await self._vault("/v1/sys/unseal", {"key": await self.bao.unseal_key()})

    async def _vault(self, path: str, body: Mapping[str, str]) -> None:
        headers = {"X-Vault-Token": self.bao.root_token}
        async with httpx.AsyncClient(base_url=self.bao.address, headers=headers, trust_env=False) as client:
            answer = await client.put(path, json=body, timeout=READY)
            answer.raise_for_status()

    async def leader(self) -> int:
        """Which server leads the stream of events."""
        info = await self.broker.api("STREAM.INFO.EVENTS")
        leader = info.get("cluster", {}).get("leader", "")
        return int(leader.removeprefix("n") or 0) if self.plan.servers > 1 else 0


@asynccontextmanager
async def world(plan: Plan, folder: Path) -> AsyncIterator[World]:
    """All of it for the duration of the block."""
    async with AsyncExitStack() as stack:
        accounts = Accounts(folder / "keys")
        nats = await _nats(plan, folder, accounts, stack)
        bao = BaoProcess(folder / "bao")
        await stack.enter_async_context(running(bao))
        urls = ",".join(server.url for server in nats)
        broker = await stack.enter_async_context(accounts.connected(urls, "operator"))
        await declare_anew(broker, plan.servers)
        environ = {**await service_environ("", bao), PLANT: plan.plant, "STINT_REPLICAS": str(plan.servers)}
        environ |= {"STINT_LEASE": str(plan.lease), "STINT_TAKEOVER": str(plan.takeover)}
        token = await client_token(bao.address, bao.root_token, policies=(CLIENT, OPERATOR))
        made = World(plan=plan, folder=folder, accounts=accounts, nats=nats, bao=bao, broker=broker, token=token)
        made.truth.mkdir()
        made.truth.chmod(0o777)
        await _engines(made, environ, stack)
        await _services(made, environ, stack)
        await _runners(made, environ, stack)
        await _all_ready(made)
        yield made


async def _nats(plan: Plan, folder: Path, accounts: Accounts, stack: AsyncExitStack) -> list[NatsProcess]:
    if plan.servers == 1:
        servers = [NatsProcess(folder / "nats", settings=accounts.settings)]
    else:
        servers = servers_of_cluster(folder, [f"n{number}" for number in range(plan.servers)], accounts.settings)
    for server in servers:
        await stack.enter_async_context(running(server))
    return servers


async def _engines(made: World, environ: dict[str, str], stack: AsyncExitStack) -> None:
    if made.plan.engine == "docker":
        environ[TRUTH_DIR] = str(made.truth)
        if host := os.environ.get("DOCKER_HOST"):
            environ["DOCKER_HOST"] = host
        made.image = "busybox:latest"
        return
    for number in range(made.plan.machines):
        engine = scripted_engine(made.folder / f"engine-{number}", made.plan.slow)
        made.engines.append(await stack.enter_async_context(engine))


async def _services(made: World, environ: dict[str, str], stack: AsyncExitStack) -> None:
    shared = {**environ, "NATS_URL": made.nats_url}
    for number in range(made.plan.sizes["api"]):
        port = free_port()
        made.api_urls.append(f"http://127.0.0.1:{port}")
        own = {**shared, **made.accounts.environ("api"), "STINT_PORT": str(port)}
        made.apis.append(_service(made, f"api-{number}", "stint_api", own))
    for number in range(made.plan.sizes["projector"]):
        own = {**shared, **made.accounts.environ("projector")}
        made.projectors.append(_service(made, f"projector-{number}", "tests.chaos.projector", own))
    for service in (*made.apis, *made.projectors):
        await stack.enter_async_context(service.running())


async def _all_ready(made: World) -> None:
    """What is counted in a run, and what it waits for, begins when all can work: a busy machine takes long to start it.

    A runner is on the list when it is ready, and streams are declared before.
    """
    reports, names = JetStreamRunnerReports(made.broker, now=utc_now), set(made.runner_ids)
    await until(reports.all, lambda found: names <= {report["runner"] for report in found}, seconds=STARTED)
    for url in made.api_urls:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=READY) as http:
            await until(partial(ready, http), seconds=STARTED)


async def _runners(made: World, environ: dict[str, str], stack: AsyncExitStack) -> None:
    await stack.enter_async_context(made.fleet)
    for number in range(made.plan.runners):
        proxies = [Proxy(server.port) for server in made.nats]
        for proxy in proxies:
            await stack.enter_async_context(proxy.listening())
        own = {
            **environ,
            **made.accounts.environ("runner"),
            "NATS_URL": ",".join(f"nats://127.0.0.1:{proxy.port}" for proxy in proxies),
            "STINT_RUNNER_ID": made.runner_ids[number],
            "STINT_CAPACITY": str(made.plan.capacity),
            "STINT_KILL_GRACE": "1",
            "STINT_STATE_DIR": str(made.folder / f"state-{number}"),
        }
        if made.plan.engine == "scripted":
            own["DOCKER_HOST"] = f"{SCHEME}{made.folder}/engine-{number % made.plan.machines}"
        made.proxies.append(proxies)
        runner = _service(made, f"runner-{number}", made.plan.runner_module, own)
        made.runners.append(runner)
        await made.fleet.enter_async_context(runner.running())


def _service(made: World, name: str, module: str, environ: Mapping[str, str]) -> Supervised:
    return Supervised(name, module, {"PYTHONPATH": str(ROOT), **environ}, made.folder / f"{name}.log")
