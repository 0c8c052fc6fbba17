"""Two runner pools, and a queue that neither of them serves."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from dotenv import dotenv_values

from stint.vault.policies import CLIENT, OPERATOR
from stint.vault.setup import client_token
from tests.api.client import Api, Json
from tests.api.conftest import connected
from tests.support.ports import free_port
from tests.support.servers import BaoProcess, NatsProcess, ready
from tests.support.stack import serving, stint
from tests.support.waiting import until


@pytest.fixture
async def settings(tmp_path: Path, nats_process: NatsProcess, bao_process: BaoProcess) -> dict[str, str]:
    """Those of all services, on servers of the test's own."""
    file, admin = tmp_path / "services.env", {"VAULT_ADDR": bao_process.address, "VAULT_TOKEN": bao_process.root_token}
    made = await stint("vault-setup", "--role", "pools", "--env-file", file, env=admin)
    assert made.code == 0, made.err
    logins = {name: value or "" for name, value in dotenv_values(file).items()}
    servers = {"STINT_NATS_URL": nats_process.url, "VAULT_ADDR": bao_process.address, "STINT_PORT": str(free_port())}
    return logins | servers


def runner(settings: Mapping[str, str], folder: Path, name: str, queues: str) -> dict[str, str]:
    own = {"STINT_RUNNER_ID": name, "STINT_QUEUES": queues, "STINT_STATE_DIR": str(folder / "state")}
    return {**settings, **own}


@pytest.fixture
async def pools(settings: dict[str, str], tmp_path: Path, bao_process: BaoProcess) -> AsyncIterator[Api]:
    """An API, and a runner for each of two pools."""
    token = await client_token(bao_process.address, bao_process.root_token, policies=(CLIENT, OPERATOR))
    mine = {"STINT_TOKEN": token, "STINT_URL": f"http://127.0.0.1:{settings['STINT_PORT']}", "STINT_ROLE": "pools"}
    async with AsyncExitStack() as processes:
        for service in ("api", "projector"):
            await processes.enter_async_context(serving(service, settings))
        for name, queues in (("nets", "net-*"), ("deploys", "deploys,releases")):
            await processes.enter_async_context(serving("runner", runner(settings, tmp_path, name, queues)))
        env = {"VAULT_ADDR": bao_process.address, "VAULT_TOKEN": bao_process.root_token, **mine}
        api = await processes.enter_async_context(connected(env))
        await until(lambda: ready(api.http), seconds=60)
        yield api


async def health(api: Api) -> Json:
    body: Json = (await api.http.get("/v1/api/health")).json()
    return body


@pytest.mark.soak
async def test_each_queue_is_served_by_its_pool_and_a_queue_without_one_says_so(
    pools: Api, settings: dict[str, str], tmp_path: Path
) -> None:
    ran = {qname: await pools.run(qname=qname) for qname in ("net-a", "deploys", "net-b", "releases")}
    assert {qname: job["node_uuid"] for qname, job in ran.items()} == {
        "net-a": "nets",
        "deploys": "deploys",
        "net-b": "nets",
        "releases": "deploys",
    }
    waiting = await pools.submit(qname="nobodys")
    job = await until(lambda: pools.get(waiting), lambda job: job["waits_for"] == "unserved")
    assert (job["status"], job["position"]) == ("queued", 1)
    # The two figures come from different streams, so one of them may be a moment ahead.
    await until(lambda: health(pools), lambda body: (body["unserved_jobs"], body["queued_jobs"]) == ("1", "1"))
    assert "stint_unserved_jobs 1.0" in (await pools.http.get("/v1/api/metrics")).text
    served = {queue["qname"]: queue["served"] for queue in (await pools.http.get("/v1/api/queue")).json()["data"]}
    assert served == dict.fromkeys(ran, True) | {"nobodys": False}
    async with serving("runner", runner(settings, tmp_path, "all", "")):
        assert (await pools.ended(waiting))["node_uuid"] == "all"
        await until(lambda: health(pools), lambda body: body["unserved_jobs"] == "0")
