"""The whole of Stint on one machine, as its user starts, uses and stops it."""

import asyncio
import os
import re
import secrets
import signal
import socket
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import httpx
import pytest
from dotenv import dotenv_values

from stint.vault import Vault
from stint.vault.policies import API, RUNNER
from stint.vault.setup import client_token, service_settings, vault_setup
from stint_runner.engine.docker import DockerEngine
from tests.support.certificates import openssl
from tests.support.ports import free_port
from tests.support.scripts import lasting
from tests.support.servers import BaoProcess, NatsProcess, OpenBao, ready
from tests.support.stack import LIVE, STINT, Stack, alive, dev, gone, serving, stint
from tests.support.terminals import terminal
from tests.support.waiting import until, until_true

pytestmark = pytest.mark.soak


async def test_the_env_file_says_everything_to_its_owner_only(stack: Stack) -> None:
    wanted = "STINT_URL STINT_TOKEN STINT_ROLE STINT_ROLE_ID VAULT_ADDR VAULT_TOKEN NATS_URL DOCKER_HOST STINT_DATA_DIR"
    wanted += " STINT_NATS_NKEY_FILE"
    assert set(wanted.split()) == set(stack.env)
    assert (stack.folder / "stack.env").stat().st_mode & 0o777 == 0o600
    names = {path.stem for path in (stack.data_dir / "run").glob("*.pid")}
    assert names == {"nats-1", "openbao-1", "api-1", "projector-1", "nats-auth-1", "runner-1", "runner-2"}
    assert all((stack.data_dir / "log" / f"{name}.log").exists() for name in names)


async def test_each_service_gets_its_own_login_only(stack: Stack) -> None:
    own: dict[str, set[str]] = {"api-1": {"API"}, "runner-1": {"RUNNER"}, "projector-1": set(), "nats-auth-1": set()}
    for service, logins in own.items():
        environment = Path(f"/proc/{stack.pid(service)}/environ").read_text()  # noqa: ASYNC240 - a moment
        assert set(re.findall(r"STINT_(\w+)_SECRET_ID=", environment)) == logins, service


async def test_stint_run_shows_the_output_and_ends_as_the_job_does(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "hello.txt").write_text("hello from a folder\n")
    script = lasting("cat /demo/hello.txt; grep -c PASSWORD /secrets.yml; echo A is $A; echo err >&2; exit 7")
    result = await stack.run(
        *("run", "--queue", "deploys", "--image", "busybox", "--secret", "PASSWORD@kv/data/demo.password"),
        *("--env", "A=1", "--content", tmp_path, "--", "sh", "-c", script),
    )
    assert (result.code, result.out) == (7, "hello from a folder\n1\nA is 1\n")
    assert "err\n" in result.err


async def test_nats_away_and_back(stack: Stack) -> None:
    """Requests do not hang while it is away, and `stint dev` starts it again."""
    job_id = await stack.ended("true")
    os.kill(stack.pid("nats-1"), signal.SIGKILL)
    async with asyncio.timeout(30), stack.http() as http:
        answer = await until(
            lambda: http.get(f"/v1/api/job/{job_id}"), lambda answer: answer.status_code != httpx.codes.OK
        )
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert "NATS" in answer.json()["error"]
        await until(lambda: http.get("/readyz"), lambda answer: answer.status_code == httpx.codes.OK)
    assert (await stack.get(job_id))["status"] == "success", "nothing accepted is lost"
    assert (await stack.end(await stack.submit("true")))["status"] == "success"


async def test_rebuild_by_command(stack: Stack) -> None:
    job_id = await stack.ended("true")

    def is_settled(answer: httpx.Response) -> bool:
        """The list lags behind the jobs' ends."""
        states = {job["_id"]: job["status"] for job in answer.json().get("data", ())}  # none while it is not ready
        return job_id in states and LIVE.isdisjoint(states.values())

    async with stack.http() as http:
        before = (await until(lambda: http.get("/v1/api/job?limit=100"), is_settled)).json()["data"]
        result = await stack.run("rebuild")
        assert (result.code, result.err.count("Traceback")) == (0, 0)
        assert "computed again" in result.out
        await until(lambda: http.get("/v1/api/job?limit=100"), lambda answer: answer.json().get("data") == before)


async def test_services_start_alone_on_a_vault_that_somebody_else_has_set_up(
    tmp_path: Path, nats_process: NatsProcess, bao_process: BaoProcess
) -> None:
    services, port = tmp_path / "services.env", free_port()
    admin = {"VAULT_ADDR": bao_process.address, "VAULT_TOKEN": bao_process.root_token}
    made = await stint("vault-setup", "--role", "alone", "--env-file", services, env=admin)
    assert made.code == 0, made.err
    settings = {name: value or "" for name, value in dotenv_values(services).items()}
    own = {"VAULT_ADDR": bao_process.address, "STINT_NATS_URL": nats_process.url, "STINT_PORT": str(port), **settings}
    own["XDG_RUNTIME_DIR"] = str(tmp_path)  # the runner's state would stay in the machine's
    client = await client_token(bao_process.address, bao_process.root_token)
    url = f"http://127.0.0.1:{port}"
    mine = {"STINT_TOKEN": client, "VAULT_ADDR": bao_process.address, "STINT_ROLE": "alone", "STINT_URL": url}
    async with serving("api", own), serving("projector", own), serving("runner", own) as runner:
        async with asyncio.timeout(30), httpx.AsyncClient(base_url=url) as http:
            await until(lambda: ready(http))
        result = await stint("run", "--image", "busybox", "--", "sh", "-c", lasting("echo alone"), env=mine)
        assert (result.code, result.out) == (0, "alone\n"), result.err
        runner.terminate()
        assert await runner.wait() == 0


@pytest.mark.parametrize("service", ["api", "runner", "projector", "nats-auth"])
async def test_a_service_with_a_wrong_setting_says_which(service: str) -> None:
    result = await stint(service, env={"STINT_RETENTION": "soon", "STINT_RUNNER_ID": "a b", "STINT_PORT": "hush"})
    assert result.code == 2
    assert "STINT_RETENTION" in result.err
    assert "Traceback" not in result.err
    assert "hush" not in result.err


async def _use(stack: Stack, marker: str) -> tuple[str, list[str]]:
    """Jobs that succeed, fail, are refused and still run; returns the running one, and what must not be found."""
    answer = await Vault(stack.env["VAULT_ADDR"]).call(
        stack.env["VAULT_TOKEN"], lambda client: client.adapter.get("/v1/kv/data/demo")
    )
    ref = ["--secret", "PASSWORD@kv/data/demo.password", "--env", f"MARK={marker}"]
    ok = await stack.run("run", "--image", "busybox", *ref, "--", "sh", "-c", lasting("grep -c PASSWORD /secrets.yml"))
    assert (ok.code, ok.out) == (0, "1\n")
    await stack.run("run", "--image", "busybox", *ref, "--secret", "X@kv/data/none.x", "--", "true")
    wrap = await stack.wrapped()
    failed = await stack.submit("true", secret_refs=["P@kv/data/none.x"], env_vars=[marker], wrap_secret_id=wrap)
    spent = await stack.submit("true", env_vars=[f"M={marker}"], wrap_secret_id=wrap)
    for job_id in (failed, spent):
        assert (await stack.end(job_id))["status"] in {"failed", "notauthorised"}
    running = await stack.submit(f"sleep 600; : {marker}")
    await until(lambda: stack.get(running), lambda job: job["container_id"])
    password = answer["data"]["data"]["password"]
    return running, [password, marker, wrap, stack.env["STINT_TOKEN"], stack.env["VAULT_TOKEN"]]


def _found(folder: Path, texts: list[str]) -> list[tuple[str, str]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [(path.name, text) for path in files for text in texts if text.encode() in path.read_bytes()]


async def test_nothing_secret_is_at_rest_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """Uses a stack, stops it, and greps all that is left on the disk."""
    async with dev(tmp_path, "--runners", "2", STINT_KILL_GRACE="1") as stack:
        pids, port = stack.pids(), int(stack.env["STINT_URL"].rpartition(":")[2])
        running, hidden = await _use(stack, f"plaintext-{secrets.token_hex(8)}")
        code = await stack.stop(signal.SIGINT)
    assert code == 0
    assert alive(pids) == []
    assert not list((stack.data_dir / "run").glob("*.pid"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    engine = DockerEngine()
    assert await engine.find({"stint.job": running}) == []
    await engine.close()
    assert _found(stack.data_dir, hidden) == []
    assert _found(stack.data_dir, [running]), "the search finds what is there"


async def secret_ids(openbao: OpenBao) -> set[str]:
    """The services' secret ids, by their accessors."""
    vault, root = Vault(openbao.address), openbao.root_token
    of_api = await vault.call(root, lambda client: client.auth.approle.list_secret_id_accessors(API))
    of_runner = await vault.call(root, lambda client: client.auth.approle.list_secret_id_accessors(RUNNER))
    return {*of_api["data"]["keys"], *of_runner["data"]["keys"]}


async def test_present_servers_are_used_and_tls_is_served(tmp_path: Path, nats_url: str, openbao: OpenBao) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    openssl(tmp_path, *made, *named, "-keyout", str(key), "-out", str(cert))
    theirs = {"NATS_URL": nats_url, "VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.root_token}
    await vault_setup(openbao.address, openbao.root_token)
    await service_settings(openbao.address, openbao.root_token)
    logins = await secret_ids(openbao)
    async with dev(tmp_path / "dev", STINT_TLS_CERT=str(cert), STINT_TLS_KEY=str(key), **theirs) as stack:
        names = {path.stem for path in (stack.data_dir / "run").glob("*.pid")}
        assert names == {"api-1", "projector-1", "runner-1"}
        assert {name: stack.env[name] for name in theirs} == theirs
        assert stack.env["STINT_URL"].startswith("https://localhost:")
        run = ["run", "--image", "busybox", "--", "sh", "-c", lasting("echo over TLS")]
        refused = await stack.run(*run)
        assert (refused.code, "not reachable" in refused.err) == (125, True), "certificates are verified"
        trusted = await stack.run(*run, STINT_CACERT=str(cert))
        assert (trusted.code, trusted.out) == (0, "over TLS\n")
        assert await secret_ids(openbao) != logins
    assert await secret_ids(openbao) == logins


async def test_a_stop_while_it_starts(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = (STINT, "dev", "--data-dir", tmp_path / "data")
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=PIPE, stderr=STDOUT)
    pid_file = tmp_path / "data" / "run" / "nats-1.pid"
    async with asyncio.timeout(60):
        await until_true(pid_file.exists)
        pid = int(pid_file.read_text())
        process.terminate()
        assert process.stdout is not None
        said = await process.stdout.read()
        assert await process.wait() == 0, said
    assert alive([pid]) == []
    assert b"ready" not in said


async def test_the_demo_shows_its_job_and_its_events(tmp_path: Path) -> None:
    result = await stint("demo", env={"HOME": str(tmp_path), "DOCKER_HOST": os.environ.get("DOCKER_HOST", "")})
    lines = result.out.splitlines()
    assert (result.code, lines[-1]) == (0, "demo: success"), result
    assert {"hello from a folder", "working 3"} < set(lines)
    shown = [line.split()[-1] for line in lines if line.startswith("  ")]
    assert shown == ["submitted", "started", "launched", "ended"]


def demo_pids(folder: Path) -> dict[str, int]:
    """The processes of the demo whose temporary folder is in this one, by name."""
    return {path.stem: int(path.read_text()) for path in folder.glob("stint-demo-*/data/run/*.pid")}


async def test_a_demo_whose_openbao_dies_says_so_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    """Also the job that runs; nothing brings back what OpenBao had in memory."""
    env = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "DOCKER_HOST": os.environ.get("DOCKER_HOST", "")}
    process = await asyncio.create_subprocess_exec(STINT, "demo", env=env, stdout=PIPE, stderr=STDOUT)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        await process.stdout.readuntil(b"working 1\n")
        pids = demo_pids(tmp_path)
        os.kill(pids["openbao-1"], signal.SIGKILL)
        said = await process.stdout.read()
        assert (await process.wait(), said.splitlines()[-1][:28]) == (1, b"demo: failed: OpenBao died, ")
    assert alive(list(pids.values())) == []
    assert not demo_pids(tmp_path)


@pytest.mark.parametrize("by", ["nobody who answers", "another stack"])
async def test_a_port_that_is_taken_is_said(stack: Stack, tmp_path: Path, by: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = stack.env["STINT_URL"].rpartition(":")[2] if by == "another stack" else str(taken.getsockname()[1])
        result = await stint("dev", "--port", port, "--data-dir", tmp_path / "data", env={"HOME": str(tmp_path)})
    assert (result.code, "ready" in result.out) == (1, False)
    assert f"port {port}" in result.err
    assert not list((tmp_path / "data" / "run").glob("*.pid"))


async def test_a_terminal_that_is_closed_stops_everything(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    async with terminal(environment, "dev", "--data-dir", str(data_dir)) as shown, asyncio.timeout(60):
        await shown.until("Ctrl-C")
        pids = [int(path.read_text()) for path in (data_dir / "run").glob("*.pid")]
        assert len(pids) == 6
        shown.close()
        assert await shown.process.wait() == 0
    assert alive(pids) == []
    assert not list((data_dir / "run").glob("*.pid"))


async def test_a_killed_stack_takes_its_processes_along_and_its_data_can_be_used_again(tmp_path: Path) -> None:
    """Its NATS is frozen, so that it is still there when the next one comes."""
    async with dev(tmp_path, STINT_KILL_GRACE="1") as killed:
        pids, nats_pid = killed.pids(), killed.pid("nats-1")
        ended, running = await killed.submit("true"), await killed.submit("sleep 600")
        await until(lambda: killed.get(running), lambda job: job["container_id"])
        os.kill(nats_pid, signal.SIGSTOP)
        killed.process.kill()
        await killed.process.wait()
        try:
            await gone(*(pid for pid in pids if pid != nats_pid))
            result = await stint("dev", "--data-dir", killed.data_dir, env={})
        finally:
            os.kill(nats_pid, signal.SIGCONT)
        assert result.code == 1
        assert f"(process {killed.process.pid})" in result.err
        assert result.err.endswith(f"end the processes that it left: their ids are in {killed.data_dir / 'run'}.\n")
        await gone(nats_pid)
    engine = DockerEngine()
    # A runner that cannot reach NATS may have to leave the container to its watchdog, which is nobody's child by then.
    await until(lambda: engine.find({"stint.job": running}), lambda found: not found, seconds=60)
    await engine.close()
    async with dev(tmp_path) as following:
        assert (await following.get(ended))["status"] == "success"
