"""Builds and starts compose.yaml, and returns when all of it is healthy. `python -m scripts.up [--scale runner=3]`.

Images that no registry gives are made from packages. What clients and `docker compose --env-file` need is written to a
file, mode 0600.
"""

import asyncio
import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from scripts.compose import ROOT, ContainersError, containers, docker, known, last_line, main, parser, service_of
from scripts.pip_conf import ca_bundle, pip_conf
from scripts.server_images import nats_image, openbao_image

from stint.cli.dev.demo_image import BUSYBOX
from stint.process.env_file import write_env_file
from stint.vault.policies import CLIENT, OPERATOR
from stint.vault.setup import client_token

HEALTHY_WITHIN: Final = 180
"""Seconds that the services may take from their start until all of them are healthy."""
GLANCE: Final = 0.3
"""Seconds between two looks for a service that does not start."""
PORTS: Final = {"STINT_PORT": "3232", "VAULT_PORT": "8200", "NATS_PORT": "4222"}
ROLE: Final = "stint-job"


async def up(options: Namespace) -> str:
    """Returns what was done."""
    began = time.monotonic()
    env = known(options.env_file)
    env |= await choices(env)
    write_env_file(options.env_file.absolute(), env)
    async with build_secrets() as secrets:
        await docker("compose", "build", "--quiet", env={**env, **secrets})
    scale = [word for each in options.scale for word in ("--scale", each)]
    await start(env, scale)
    env |= await client_settings(env)
    write_env_file(options.env_file.absolute(), env)
    runners = len(await containers(env, "runner"))
    return (
        f"NATS, OpenBao (DEV MODE: in memory, unsealed), api, projector and {runners} runner(s) are healthy at "
        f"{env['STINT_URL']} after {time.monotonic() - began:.0f} s; clients: {options.env_file}"
    )


async def choices(given: Mapping[str, str]) -> dict[str, str]:
    """What compose.yaml leaves open: the environment's choice, else that of the last time, else what fits here."""
    env = {name: os.environ.get(name) or given.get(name) or port for name, port in PORTS.items()}
    env["COMPOSE_PROJECT_NAME"] = os.environ.get("COMPOSE_PROJECT_NAME") or given.get("COMPOSE_PROJECT_NAME") or "stint"
    env["PYTHON_IMAGE"] = os.environ.get("PYTHON_IMAGE") or await python_image()
    env["NATS_IMAGE"] = os.environ.get("NATS_IMAGE") or await nats_image()
    env["OPENBAO_IMAGE"] = os.environ.get("OPENBAO_IMAGE") or await openbao_image()
    env["DOCKER_SOCKET"] = os.environ.get("DOCKER_SOCKET") or await engine_socket()
    env["DOCKER_GID"] = os.environ.get("DOCKER_GID") or await group_of(env["DOCKER_SOCKET"])
    return env


async def python_image() -> str:
    """One that is there, pulled or made."""
    process = await asyncio.create_subprocess_exec(
        ROOT / "scripts" / "ensure-python-image", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise ContainersError("There is no image with Python to build on.")
    return out.decode().strip()


async def engine_socket() -> str:
    """Where the engine's socket lies on its host."""
    host = (await docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")).strip()
    # Docker Desktop: its engine runs in a machine of its own, where it has the usual socket.
    return (
        host.removeprefix("unix://")
        if host.startswith("unix://") and sys.platform == "linux"
        else "/var/run/docker.sock"
    )


async def group_of(socket: str) -> str:
    """The number of the socket's group as a container sees it, which a rootless engine's user does not."""
    mount = f"type=bind,source={socket},target=/socket,readonly"
    told = await docker("run", "--rm", "--network=none", f"--mount={mount}", BUSYBOX, "stat", "-c", "%g", "/socket")
    return told.strip()


@asynccontextmanager
async def build_secrets() -> AsyncIterator[dict[str, str]]:
    """This machine's way to packages, for the build alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pip.conf"
        path.touch(0o600)
        bundle = ca_bundle()
        path.write_text(await pip_conf("/run/secrets/ca" if bundle else ""), encoding="utf-8")
        yield {"STINT_BUILD_PIP": str(path), **({"STINT_BUILD_CA": str(bundle)} if bundle else {})}


async def start(env: Mapping[str, str], scale: list[str]) -> None:
    """Returns when all are healthy; gives up as soon as one of them does not start."""
    wait = ("--wait", "--wait-timeout", str(HEALTHY_WITHIN))
    starting = asyncio.create_task(
        docker("compose", "up", "--detach", "--no-build", "--remove-orphans", *wait, *scale, env=env)
    )
    while not starting.done():
        await asyncio.wait({starting}, timeout=GLANCE)
        if any(container["State"]["Restarting"] for container in await containers(env)):
            starting.cancel()
    results = await asyncio.gather(starting, return_exceptions=True)
    if isinstance(error := results[0], BaseException):
        await explain(env)
        raise error


async def explain(env: Mapping[str, str]) -> None:
    """Raise what the first service said last that does not go on, if there is one."""
    for container in await containers(env):
        state = container["State"]
        was_well = state.get("Health", {}).get("Status") == "healthy"
        if state["ExitCode"] or (container["RestartCount"] and not was_well):
            said = state["Error"] or last_line(await docker("logs", "--tail", "1", container["Id"], merge=True))
            raise ContainersError(f"{service_of(container)} does not start: {said}")


async def client_settings(env: Mapping[str, str]) -> dict[str, str]:
    """As `stint dev` gives them."""
    vault_addr = f"http://127.0.0.1:{env['VAULT_PORT']}"
    root_token = await docker("compose", "exec", "-T", "openbao", "cat", "/run/openbao/root-token", env=env)
    return {
        "STINT_URL": f"http://127.0.0.1:{env['STINT_PORT']}",
        "STINT_TOKEN": await client_token(vault_addr, root_token, policies=(CLIENT, OPERATOR)),
        "STINT_ROLE": ROLE,
        "VAULT_ADDR": vault_addr,
        "VAULT_TOKEN": root_token,
        "NATS_URL": f"nats://127.0.0.1:{env['NATS_PORT']}",
    }


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--scale", action="append", default=[], metavar="SERVICE=N")
    sys.exit(main("up", lambda: up(arguments.parse_args())))
