"""All of Stint in containers, by the three commands that its user knows."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from scripts.compose import docker
from scripts.smoke import UNTIL_TOLD, now, until_logged

from stint.core.subjects import LABEL_JOB
from stint_api.read.runners import JetStreamRunnerReports
from tests.e2e.compose import Compose, composed, sweep
from tests.support.brokers import connected
from tests.support.registry import Registry
from tests.support.servers import running
from tests.support.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(240)]  # the first one builds

SERVICES = ("api", "projector", "runner")


@pytest.fixture(scope="module")
async def _swept(tmp_path_factory: pytest.TempPathFactory) -> None:
    await sweep(tmp_path_factory.mktemp("swept"))


@pytest.fixture(scope="module")
async def stack(_swept: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Compose]:
    async with composed(tmp_path_factory.mktemp("compose")) as stack:
        yield stack


async def test_up_says_what_it_did_and_tells_only_its_user_how_to_get_in(stack: Compose) -> None:
    said = stack.said.splitlines()[-1]
    assert said.startswith("up: ")
    assert "DEV MODE" in said
    assert f"http://127.0.0.1:{stack.ports['STINT_PORT']}" in said
    assert stack.env_file.stat().st_mode & 0o777 == 0o600


async def test_three_runners_and_the_smoke(stack: Compose) -> None:
    assert (await stack.make("up", "--scale runner=3")).code == 0
    names = {container["Config"]["Hostname"] for container in await stack.containers("runner")}
    assert len(names) == 3
    async with asyncio.timeout(30), connected(stack.env["NATS_URL"]) as broker:
        reports = JetStreamRunnerReports(broker)
        await until(reports.read, lambda found: names == {report["runner"] for report in found})
    result = await stack.make("smoke")
    assert result.out.splitlines()[-1].startswith("smoke: a sealed job read its secret"), result


async def test_a_runner_keeps_its_name_when_its_container_is_started_again(stack: Compose) -> None:
    runner = (await stack.containers("runner"))[0]["Config"]["Hostname"]
    began = now()
    await docker("restart", runner)
    async with asyncio.timeout(60):
        ready = await until_logged(runner, "runner ready", since=began)
    assert ready["runner"] == runner


async def test_services_are_confined(stack: Compose) -> None:
    for service in SERVICES:
        for container in await stack.containers(service):
            assert container["Config"]["User"] == "10001:10001"
            assert container["HostConfig"]["CapDrop"] == ["ALL"]
            assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
            ports = container["HostConfig"]["PortBindings"] or {}
            assert {binding["HostIp"] for bindings in ports.values() for binding in bindings} <= {"127.0.0.1"}


async def test_no_secret_can_be_inspected(stack: Compose) -> None:
    """What stands in a file of the container does not stand in its configuration."""
    files = {"api": "STINT_API_SECRET_ID", "runner": "STINT_RUNNER_SECRET_ID"}
    containers = await stack.containers()
    shown = json.dumps([*containers, await images(stack)])
    for service, name in files.items():
        container = next(each["Id"] for each in await stack.containers(service))
        path = f"/run/stint/{name}"
        secret = await docker("exec", container, "cat", path)
        assert secret
        assert secret not in shown
        assert (await docker("exec", container, "stat", "-c", "%a %u", path)).split() == ["400", "10001"]
        assert sorted(await names_in(container, "/run/stint")) == sorted(FILES[service])
    assert stack.env["VAULT_TOKEN"] not in shown
    for container in containers:
        assert stack.env["VAULT_TOKEN"] not in await docker("logs", container["Id"])


FILES = {
    "api": ("STINT_API_ROLE_ID", "STINT_API_SECRET_ID"),
    "runner": ("STINT_RUNNER_ROLE_ID", "STINT_RUNNER_SECRET_ID", "STINT_ROLE_ID"),
}


async def names_in(container: str, folder: str) -> list[str]:
    return (await docker("exec", container, "ls", "-A", folder)).split()


async def images(stack: Compose) -> list[object]:
    found = [json.loads(await docker("image", "inspect", f"{stack.project}-{service}")) for service in SERVICES]
    histories = [await docker("history", "--no-trunc", f"{stack.project}-{service}") for service in SERVICES]
    return [*found, *histories]


FIND = "import importlib.util as u, shutil, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) or shutil.which(n)])"
"""Which of the names is a module or a program there."""


@pytest.mark.parametrize(
    ("service", "extra"), [("api", {"fastapi"}), ("runner", {"aiodocker", "yaml"}), ("projector", set())]
)
async def test_an_image_holds_its_services_extra_and_nothing_to_build_with(
    stack: Compose, service: str, extra: set[str]
) -> None:
    sought = ["fastapi", "aiodocker", "yaml", "hatchling", "pip", "gcc", "cc", "make", "uv", "nats-server"]
    found = await docker("run", "--rm", "--network=none", f"{stack.project}-{service}", "python3", "-c", FIND, *sought)
    assert set(found.split()) == extra


@pytest.mark.parametrize(
    ("service", "name", "value"),
    [
        ("api", "STINT_PORT", "eighty"),
        ("api", "STINT_API_SECRET_ID", ""),
        ("runner", "STINT_LEASE", "-1"),
        ("runner", "STINT_ROLE_ID_FILE", "/nowhere"),
        ("projector", "STINT_RETENTION", "soon"),
    ],
)
async def test_a_wrong_setting_stops_the_service_with_a_sentence(
    stack: Compose, service: str, name: str, value: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *("docker", "run", "--rm", "--network=none", "--env", f"{name}={value}", f"{stack.project}-{service}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert err.decode().startswith("stint: ")
    assert name in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.usefixtures("_swept")
async def test_up_fails_with_that_sentence(tmp_path: Path) -> None:
    settings = tmp_path / "compose.env"
    settings.write_text("STINT_RETENTION=soon\n")
    stack = Compose(tmp_path)
    try:
        result = await stack.make("up", STINT_SETTINGS=str(settings))
        assert result.code
        assert "does not start: stint: STINT_RETENTION" in result.out.splitlines()[-1]
    finally:
        await stack.make("down")
    assert await stack.left() == {}


async def test_services_end_on_sigterm_by_themselves(stack: Compose) -> None:
    for service in SERVICES:
        container = (await stack.containers(service))[0]["Id"]
        await docker("stop", container)
        code = await docker("inspect", "--format", "{{.State.ExitCode}}", container)
        await docker("start", container)
        assert code.strip() == "0", service


@pytest.mark.usefixtures("_swept")
async def test_down_leaves_nothing_even_of_a_runner_that_was_killed(tmp_path: Path) -> None:
    async with running(registry := Registry(tmp_path / "registry")):
        image = await registry.push_new("busybox", "team/job:1")
        async with composed(tmp_path) as stack:
            async with stack.api() as api:
                run = await stack.submit(api, "left-behind", UNTIL_TOLD, image=image)
                await run.until_output()
                job = await api.get(run.job_id)
            await docker("kill", job["node_uuid"])
            of_job = f"--filter=label={LABEL_JOB}={run.job_id}"
            assert len((await docker("ps", "--quiet", of_job)).split()) == 1
            assert set(await stack.left()) == {"containers", "networks", "volumes", "images"}
        assert await stack.left() == {}
    assert await docker("ps", "--all", "--quiet", of_job) == ""
    assert await docker("image", "ls", "--all", "--quiet", of_job) == ""
    assert await docker("image", "ls", "--quiet", image) == ""
    assert not stack.env_file.exists()
