"""The embedded stack: servers, services, and the settings that tie them together."""

import asyncio
import fcntl
import os
import secrets
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import httpx
import structlog

from stint.dev.children import Child, inherited_environment
from stint.dev.servers import free_port, nats, openbao
from stint.errors import ConfigError
from stint.vault.edge import Edge
from stint.vault.setup import client_token, service_settings, vault_setup

log = structlog.get_logger()

DEMO_SECRET: Final = "kv/data/demo"
"""Where the embedded Vault has a secret to try things with: its key is `password`."""
DRAIN: Final = "3"
"""Seconds that running jobs may go on when the stack is stopped."""
RUNNER_STOP: Final = 40.0
"""Seconds that a runner may take to stop: drain, kill grace, clean-up."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `stint dev` was asked for. `port` 0 takes a free one."""

    data_dir: Path
    port: int = 0
    runners: int = 1


@dataclass
class Stack:
    """A running stack.

    Attributes:
        options: as asked for.
        settings: what `--env-file` writes: where everything is, and a token to use it with.
        children: in the order in which they were started.
    """

    options: Options
    settings: dict[str, str] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)
    _watchers: list["asyncio.Task[None]"] = field(default_factory=list)

    async def start(self) -> None:
        """Start everything; returns when all of it answers.

        Raises:
            StintError: a part did not start. What did start is to be stopped.
        """
        nats_url = await self._nats()
        vault_addr, root_token = await self._vault()
        role = os.environ.get("STINT_ROLE") or os.environ.get("GOSTINT_ROLENAME") or "stint-job"
        cacert = os.environ.get("VAULT_CACERT", "")
        report = await vault_setup(vault_addr, root_token, role=role, kv_mount="kv", cacert=cacert)
        for name in report.different:
            log.warning("left alone in Vault, though it differs", name=name)
        shared = await service_settings(vault_addr, root_token, role=role, cacert=cacert)
        environment = inherited_environment() | {"STINT_NATS_URL": nats_url, "VAULT_ADDR": vault_addr} | dict(shared)
        await self._services(environment)
        self.settings |= {
            "STINT_TOKEN": await client_token(vault_addr, root_token, cacert=cacert),
            "STINT_ROLE": role,
            "STINT_ROLE_ID": shared["STINT_ROLE_ID"],
            "VAULT_ADDR": vault_addr,
            "VAULT_TOKEN": root_token,
            "NATS_URL": nats_url,
            "DOCKER_HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            "STINT_DATA_DIR": str(self.options.data_dir),
        }

    async def stop(self) -> None:
        """Stop everything: first what takes jobs, last what keeps them."""
        api = [child for child in self.children if child.name.startswith("api")]
        await asyncio.gather(*(child.stop() for child in api))
        runners = [child for child in self.children if child.name.startswith("runner")]
        await asyncio.gather(*(child.stop() for child in runners))
        for child in reversed(self.children):
            await child.stop()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    # --- the parts --------------------------------------------------------------------------------------------------

    async def _start(self, *children: Child) -> None:
        self.children += children
        await asyncio.gather(*(child.start() for child in children))
        self._watchers += [asyncio.create_task(child.watch(), name=child.name) for child in children]

    async def _nats(self) -> str:
        if given := os.environ.get("STINT_NATS_URL") or os.environ.get("NATS_URL"):
            return given
        port = free_port()
        await self._start(nats(self.options.data_dir, port))
        return f"nats://127.0.0.1:{port}"

    async def _vault(self) -> tuple[str, str]:
        """Address and an administrator's token."""
        address, token = os.environ.get("VAULT_ADDR"), os.environ.get("VAULT_TOKEN")
        if address and token:
            return address, token
        port, token = free_port(), secrets.token_hex(16)
        await self._start(openbao(self.options.data_dir, port, token))
        address = f"http://127.0.0.1:{port}"
        await vault_setup(address, token, kv_mount="kv")
        await _seed(address, token)
        return address, token

    async def _services(self, environment: dict[str, str]) -> None:
        port = self.options.port or free_port()
        tls = bool(environment.get("STINT_TLS_CERT") or environment.get("GOSTINT_SSL_CERT"))
        url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        self.settings["STINT_URL"] = url
        services = [
            self._service("api", 1, environment | {"STINT_PORT": str(port)}, url),
            self._service("projector", 1, environment),
        ]
        for number in range(1, self.options.runners + 1):
            # A name of its own that stays, so that a runner that is started again knows its jobs.
            own = {"STINT_RUNNER_ID": f"runner-{number}", "STINT_DRAIN": environment.get("STINT_DRAIN") or DRAIN}
            services.append(self._service("runner", number, environment | own))
        await self._start(*services)

    def _service(self, service: str, number: int, environment: dict[str, str], url: str = "") -> Child:
        if not url:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            environment = {**environment, "STINT_HEALTH_PORT": str(port)}

        async def ready() -> bool:
            return await _answers(f"{url}/readyz")

        return Child(
            name=f"{service}-{number}",
            command=[sys.executable, "-m", f"stint_{service}"],
            environment=environment,
            data_dir=self.options.data_dir,
            ready=ready,
            stop_within=RUNNER_STOP if service == "runner" else 10.0,
        )


async def _answers(url: str) -> bool:
    # Only asks one's own child on loopback whether it is up: its certificate may name another host.
    async with httpx.AsyncClient(verify=False, timeout=5.0, trust_env=False) as client:  # noqa: S501 - see above
        try:
            return (await client.get(url)).is_success
        except httpx.HTTPError:
            return False


async def _seed(address: str, token: str) -> None:
    """A secret to try things with, of no value anywhere else."""
    value = {"data": {"password": secrets.token_urlsafe(12)}}
    await Edge(address).call(token, lambda client: client.adapter.post(f"/v1/{DEMO_SECRET}", json=value))


def claim_data_dir(data_dir: Path, resources: AsyncExitStack) -> None:
    """Make the data directory, and keep others out of it as long as `resources` is open.

    Raises:
        ConfigError: it cannot be made, or another `stint dev` uses it.
    """
    try:
        for folder in ("run", "log"):
            (data_dir / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        lock: TextIO = resources.enter_context((data_dir / "run" / "dev.lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"Another `stint dev` uses {data_dir}.") from None
    except OSError as error:
        raise ConfigError(f"{data_dir} cannot be used: {error.strerror}.") from None
