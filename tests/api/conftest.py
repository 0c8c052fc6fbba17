"""The stacks that the suite runs against.

`STINT_API_ENV` names the env file of a running stack, in the form that `stint dev --env-file` writes; without it the
suite starts stacks of its own. Tests that need a stack's registries or its processes are skipped on a running one.
"""

import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from dotenv import dotenv_values

from tests.api.client import WAIT, Api
from tests.api.vault import Vault
from tests.support.registry import Registry, mirrored_engine, registry
from tests.support.stack import dev

ENV_FILE = os.environ.get("STINT_API_ENV", "")
"""Read now: the session takes away what a client could find by itself."""

OUTPUT_LIMIT = 4000
RETENTION = 5
"""Bytes and seconds on the second stack."""
DRAIN = 10
"""Seconds on the others: enough for another runner to run a job meanwhile."""
CAPACITY = 4
"""Jobs at a time of each of their runners, whatever the machine."""


@dataclass(frozen=True)
class Registries:
    """`hub` is the engine's mirror of Docker Hub; the others want a login, which the runner finds in its docker config
    or in Vault; nobody has one for `closed`.
    """

    hub: Registry
    by_config: Registry
    by_vault: Registry
    closed: Registry


@asynccontextmanager
async def connected(env: Mapping[str, str]) -> AsyncIterator[Api]:
    headers, limits = {"X-Auth-Token": env["STINT_TOKEN"]}, httpx.Limits(max_connections=None)
    client = partial(httpx.AsyncClient, timeout=WAIT, limits=limits, trust_env=False)
    async with client(base_url=env["STINT_URL"], headers=headers) as http, client(base_url=env["VAULT_ADDR"]) as vault:
        api = Api(env, http, Vault(vault, env["STINT_ROLE"], env["STINT_TOKEN"], env["VAULT_TOKEN"]))
        await api.vault.mount_v1()
        yield api


@pytest.fixture(scope="session")
def _no_stack_given() -> None:
    if ENV_FILE:
        pytest.skip("needs a stack of the suite's own")


@pytest.fixture(scope="session")
async def registries(
    _no_stack_given: None, tmp_path_factory: pytest.TempPathFactory, busybox: str
) -> AsyncIterator[Registries]:
    async with AsyncExitStack() as stack:
        login = {"someone": "a pass:word"}

        async def started(users: Mapping[str, str] | None = None) -> Registry:
            return await stack.enter_async_context(registry(tmp_path_factory.mktemp("registry"), users=users))

        found = Registries(await started(), await started(login), await started(login), await started(login))
        await found.hub.push(busybox, "library/busybox")
        yield found


@pytest.fixture(scope="session")
async def own(registries: Registries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """Two runners on an engine of their own, whose Docker Hub is a registry on this machine."""
    folder = tmp_path_factory.mktemp("own")
    config = _docker_config(folder / "docker", registries.by_config)
    settings = {
        "STINT_KILL_GRACE": "2",
        "STINT_DRAIN": str(DRAIN),
        "STINT_CAPACITY": str(CAPACITY),
        "STINT_REGISTRY_SECRETS": "kv/data/registries",
    }
    async with (
        mirrored_engine(folder, registries.hub) as engine,
        _stack(folder, DOCKER_HOST=engine, DOCKER_CONFIG=str(config), **settings) as api,
    ):
        await api.vault.put_secret("registries", {registries.by_vault.host: registries.by_vault.login})
        await api.vault.allow("stint-runner", "kv/data/registries")
        yield api


def _docker_config(folder: Path, registry: Registry) -> Path:
    """A folder with the file that `docker login` writes."""
    basic = base64.b64encode(":".join(registry.login.values()).encode()).decode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": basic}}}))
    return folder


@asynccontextmanager
async def _stack(folder: Path, **settings: str) -> AsyncIterator[Api]:
    """A stack with two runners, on this machine's engine unless `DOCKER_HOST` names another."""
    async with dev(folder, "--runners", "2", **settings) as stack, connected(stack.env) as api:
        yield api


@pytest.fixture(scope="session")
async def given() -> AsyncIterator[Api]:
    """The running stack."""
    async with connected({name: value or "" for name, value in dotenv_values(ENV_FILE).items()}) as api:
        yield api


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Api:
    found: Api = request.getfixturevalue("given" if ENV_FILE else "own")
    return found


@pytest.fixture(scope="session")
async def compat(_no_stack_given: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A stack that behaves as GoStint does, keeps jobs for seconds only and cuts their output short."""
    settings = {"STINT_COMPAT": "gostint", "STINT_RETENTION": str(RETENTION), "STINT_OUTPUT_LIMIT": str(OUTPUT_LIMIT)}
    async with _stack(tmp_path_factory.mktemp("compat"), STINT_KILL_GRACE="1", **settings) as api:
        yield api


@pytest.fixture(scope="session")
async def keeping(_no_stack_given: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A stack that keeps payloads."""
    settings = {"STINT_KEEP_PAYLOADS": "600", "STINT_ERASURE": "off", "STINT_KILL_GRACE": "1"}
    async with _stack(tmp_path_factory.mktemp("keeping"), **settings) as api:
        yield api
