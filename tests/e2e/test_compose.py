"""All of Stint in containers, by the commands that its user knows."""

import asyncio
import hashlib
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stint.core.names.headers import LABEL_JOB
from stint.jetstream import Access
from stint.vault import Vault
from stint_api.read.runners import JetStreamRunnerReports
from tests.e2e.compose import Compose, composed, docker, run, sweep
from tests.support.brokers import connected
from tests.support.events import utc_now
from tests.support.scripts import lasting
from tests.support.stack import program
from tests.support.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]  # the first one builds

SERVICES = ("api", "projector", "runner", "nats-auth")
TELL_SECRET = lasting("""sed -n 's/^PASSWORD: //p' /secrets.yml | tr -d "\\n\\"'" | sha256sum""")
UNTIL_TOLD = "echo first; until [ -e /tmp/go ]; do sleep 0.1; done; echo last"


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Compose]:
    await sweep()
    async with composed() as stack:
        yield stack


def now() -> str:
    """As `docker logs --since` takes it."""
    return datetime.now(UTC).isoformat()


async def until_logged(container: str, event: str, *, since: str) -> Mapping[str, Any]:
    """Wait until a service has logged this; returns the line."""
    follow = ("docker", "logs", "--follow", "--since", since, container)
    async with program(*follow, stdout=DEVNULL, stderr=PIPE) as following, asyncio.timeout(60):
        assert following.stderr
        async for line in following.stderr:
            said: Mapping[str, Any] = json.loads(line) if line.startswith(b"{") else {}
            if said.get("event") == event:
                return said
    pytest.fail(f"{container} ended without logging {event!r}")


async def test_a_sealed_job_reads_its_secret(stack: Compose) -> None:
    async with stack.submitted("sealed", TELL_SECRET, "PASSWORD@kv/data/demo.password") as run:
        await run.until_end(status="success", return_code=0, output_complete=True)
    assert stack.endpoints
    kept = await Vault(stack.endpoints.vault_addr).read(stack.endpoints.token, "kv/data/demo")
    assert kept
    assert kept.data
    assert hashlib.sha256(kept.data["data"]["password"].encode()).hexdigest() == run.output.split()[0].decode()


async def test_a_job_ends_by_itself_while_its_runner_is_stopped(stack: Compose) -> None:
    async with stack.submitted("stopped", UNTIL_TOLD) as run:
        await run.until_output()
        runner = (await run.job.info()).runner
        began = now()
        stopping = asyncio.create_task(docker("stop", runner))
        try:
            await until_logged(runner, "draining", since=began)
            (job,) = (await docker("ps", "--quiet", "--filter", f"label={LABEL_JOB}={run.job.id}")).split()
            await docker("exec", job, "touch", "/tmp/go")  # noqa: S108 - in the container
            await run.until_end(status="success", output_complete=True, runner=runner)
            assert run.output == b"first\nlast\n"
        finally:
            await asyncio.gather(stopping, return_exceptions=True)
            code = await docker("inspect", "--format", "{{.State.ExitCode}}", runner)
            began = now()
            await docker("start", runner)
    assert code.strip() == "0"
    assert (await until_logged(runner, "runner ready", since=began))["runner"] == runner, "it keeps its name"


async def test_three_runners(stack: Compose) -> None:
    assert (await stack.compose("up", "--wait", "--scale", "runner=3")).code == 0
    names = {container["Config"]["Hostname"] for container in await stack.containers("runner")}
    assert len(names) == 3
    (nats,) = await stack.containers("nats")
    key = await docker("exec", nats["Id"], "cat", "/etc/nats/operator/STINT_NATS_NKEY")
    async with asyncio.timeout(30), connected(Access(url=stack.nats_url, nkey=key.strip())) as broker:
        reports = JetStreamRunnerReports(broker, now=utc_now)
        await until(reports.read, lambda found: names <= {report["runner"] for report in found})


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
        assert (await docker("exec", container, "stat", "-c", "%a %u", path)).split() == ["600", "10001"]
        assert sorted((await docker("exec", container, "ls", "-A", "/run/stint")).split()) == sorted(FILES[service])
    assert stack.endpoints
    assert stack.endpoints.token not in shown
    for container in containers:
        logged = await run("docker", "logs", container["Id"])
        assert logged.code == 0
        assert stack.endpoints.token not in logged.out + logged.err  # services log on standard error


FILES = {
    "api": ("STINT_API_ROLE_ID", "STINT_API_SECRET_ID", "STINT_NATS_NKEY"),
    "runner": ("STINT_NATS_NKEY", "STINT_RUNNER_ROLE_ID", "STINT_RUNNER_SECRET_ID", "STINT_ROLE_ID"),
}


async def images(stack: Compose) -> list[object]:
    found = [json.loads(await docker("image", "inspect", f"{stack.project}-{service}")) for service in SERVICES]
    histories = [await docker("history", "--no-trunc", f"{stack.project}-{service}") for service in SERVICES]
    return [*found, *histories]


FIND = "import importlib.util as u, shutil, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) or shutil.which(n)])"
"""Which of the names is a module or a program there."""


@pytest.mark.parametrize(
    ("service", "extra"), [("api", {"fastapi"}), ("runner", {"aiodocker", "yaml"}), ("projector", set())]
)
async def test_an_image_has_its_services_extra_no_build_tools(stack: Compose, service: str, extra: set[str]) -> None:
    sought = ["fastapi", "aiodocker", "yaml", "hatchling", "pip", "gcc", "cc", "make", "uv", "nats-server"]
    found = await docker("run", "--rm", "--network=none", f"{stack.project}-{service}", "python3", "-c", FIND, *sought)
    assert set(found.split()) == extra


async def test_up_fails_and_the_log_says_why(tmp_path: Path) -> None:
    settings = tmp_path / "compose.env"
    settings.write_text("STINT_RETENTION=soon\n")
    stack = Compose()
    try:
        result = await stack.compose("up", "--build", "--wait", STINT_SETTINGS=str(settings))
        assert result.code
        assert f"container {stack.project}-" in result.err.splitlines()[-1]
        # It ends with the first service whose attempts are used up: the API may just have been started by then.
        await until(
            lambda: stack.compose("logs", "api"), lambda found: "stint: STINT_RETENTION: " in found.out, seconds=60
        )
    finally:
        await stack.down()
    assert await stack.left() == {}


async def test_services_end_on_sigterm_by_themselves(stack: Compose) -> None:
    for service in SERVICES:
        container = (await stack.containers(service))[0]["Id"]
        await docker("stop", container)
        code = await docker("inspect", "--format", "{{.State.ExitCode}}", container)
        await docker("start", container)
        assert code.strip() == "0", service


async def test_down_leaves_nothing_even_of_a_running_job() -> None:
    async with composed() as stack:
        async with stack.submitted("left-behind", UNTIL_TOLD) as run:
            await run.until_output()
        of_job = f"--filter=label={LABEL_JOB}={run.job.id}"
        assert len((await docker("ps", "--quiet", of_job)).split()) == 1
        assert set(await stack.left()) == {"containers", "networks", "volumes", "images"}
    assert await stack.left() == {}
    assert await docker("ps", "--all", "--quiet", of_job) == ""
