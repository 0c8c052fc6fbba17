"""The embedded stack: servers, services, and the settings that connect them."""

import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import httpx
import structlog

from stint.cli.dev.children import Child, DataDir
from stint.cli.dev.servers import NATS_AUTH, free_ports, nats, nats_access, openbao
from stint.core.errors import VaultError
from stint.process.environment import load, setting_names
from stint.process.settings import RunnerSettings, Settings
from stint.vault.policies import CLIENT, OPERATOR
from stint.vault.setup import client_token, revoke_secret_ids, service_settings, vault_setup

log = structlog.get_logger()

NATS_ACCESS: Final = [
    f"{name}{form}"
    for name in setting_names(Settings)
    if name.startswith(("STINT_NATS_", "STINT_JS_")) and name != "STINT_NATS_URL"
    for form in ("", "_FILE")
]
"""Settings for access to NATS, besides its address."""
NOT_INHERITED: Final = {"VAULT_TOKEN", "STINT_TOKEN", *NATS_ACCESS}
"""What services do not get from this process's environment."""
LOGINS: Final = {service: f"STINT_{service.upper()}_SECRET_ID" for service in ("api", "runner")}
"""What only one service gets: its login to Vault."""
DRAIN: Final = "3"
"""Seconds that running jobs may continue when the stack is stopped."""
SERVICE_STOP: Final = 15.0
"""Seconds that another service may take to stop: more than the 10 in which the API finishes its answers."""
RUNNER_CLEAN_UP: Final = 15.0
"""Seconds that a runner waits for its killed jobs to end, after drain and kill grace."""
RUNNER_MARGIN: Final = 10.0
"""Further seconds for closing its connections to NATS, Vault and the engine."""

Ready = Callable[[], Awaitable[bool]]
NatsAccess = Callable[[str], Mapping[str, str]]
"""The settings with which a user, a service or `operator`, reaches NATS."""


@dataclass
class Stack:
    """A running stack.

    `settings` is what `--env-file` writes: the servers' addresses, and a token to use them with. `lost` is set when the
    stack's own OpenBao dies, whose data nothing brings back.
    """

    data_dir: DataDir
    port: int = 0
    runners: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    lost: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _ports: Iterator[int] = field(default_factory=free_ports, init=False)
    _stages: list[Sequence[Child]] = field(default_factory=list, init=False)
    _revoke: Callable[[], Awaitable[None]] | None = field(default=None, init=False)

    async def start(self) -> None:
        """Start everything; returns when all is ready. After a StintError call `stop`: parts may run."""
        nats_url, access = await self._nats()
        vault_addr, root_token = await self._vault()
        role = os.environ.get("STINT_ROLE") or os.environ.get("GOSTINT_ROLENAME") or "stint-job"
        cacert = os.environ.get("VAULT_CACERT", "")
        logins = await self._logins(vault_addr, root_token, role, cacert)
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        servers = {"STINT_NATS_URL": nats_url, "VAULT_ADDR": vault_addr}
        url = await self._services({**inherited, **servers, **logins}, access)
        self.settings |= {
            "STINT_URL": url,
            "STINT_TOKEN": await client_token(vault_addr, root_token, policies=(CLIENT, OPERATOR), cacert=cacert),
            "STINT_ROLE": role,
            "STINT_ROLE_ID": logins["STINT_ROLE_ID"],
            "VAULT_ADDR": vault_addr,
            "VAULT_TOKEN": root_token,
            "NATS_URL": nats_url,
            **access("operator"),
            "DOCKER_HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            "STINT_DATA_DIR": str(self.data_dir.path),
        }

    async def stop(self) -> None:
        """Stop everything: first the processes that accept jobs, last the ones that store them."""
        for stage in reversed(self._stages):
            await asyncio.gather(*(child.stop() for child in stage))
        if self._revoke:
            try:
                await self._revoke()
            except VaultError as error:
                log.warning("the services' secret ids could not be revoked in Vault", error=error.sentence)

    # --- the parts --------------------------------------------------------------------------------------------------

    async def _start(self, *stages: Sequence[Child]) -> None:
        """Start all of them at the same time; `stop` stops one stage after the other, the last one first."""
        self._stages += stages
        await asyncio.gather(*(child.start() for stage in stages for child in stage))

    async def _nats(self) -> tuple[str, NatsAccess]:
        """The address of NATS, and the settings with which a service or the operator reaches it."""
        if given := os.environ.get("STINT_NATS_URL") or os.environ.get("NATS_URL"):
            access = {name: os.environ[name] for name in NATS_ACCESS if os.environ.get(name)}
            return given, lambda user: {} if user == NATS_AUTH else access
        port = next(self._ports)
        await self._start([await nats(self.data_dir, port)])
        return f"nats://127.0.0.1:{port}", partial(nats_access, self.data_dir)

    async def _vault(self) -> tuple[str, str]:
        address, token = os.environ.get("VAULT_ADDR"), os.environ.get("VAULT_TOKEN")
        if address and token:
            return address, token
        port, token = next(self._ports), secrets.token_hex(16)
        await self._start([openbao(self.data_dir, port, token, self.lost)])
        return f"http://127.0.0.1:{port}", token

    async def _logins(self, vault_addr: str, token: str, role: str, cacert: str) -> Mapping[str, str]:
        """Set up Vault, and return the services' logins. `stop` revokes them in a Vault that continues to run."""
        registries = os.environ.get("STINT_REGISTRY_SECRETS", "")
        report = await vault_setup(vault_addr, token, role=role, kv_mount="kv", cacert=cacert, registries=registries)
        for name in report.different:
            log.warning("differs in Vault and was not changed: see stint vault-setup --update", name=name)

        def keep(logins: Mapping[str, str]) -> None:
            if vault_addr == os.environ.get("VAULT_ADDR"):
                self._revoke = partial(revoke_secret_ids, vault_addr, token, logins, cacert=cacert)

        return await service_settings(vault_addr, token, role=role, cacert=cacert, keep=keep)

    async def _services(self, environment: Mapping[str, str], access: NatsAccess) -> str:
        port = self.port or next(self._ports)
        tls = environment.get("STINT_TLS_CERT") or environment.get("GOSTINT_SSL_CERT")
        url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        port_file = self.data_dir.run / "api-1.port"
        port_file.unlink(missing_ok=True)
        listening = {"STINT_PORT": str(port), "STINT_PORT_REPORT": str(port_file)}

        async def api_ready() -> bool:
            # Check its file first: another server may already use the port and answer.
            return port_file.exists() and await _answers(f"{url}/readyz")

        runners = []
        for number in range(1, self.runners + 1):
            # A fixed name, so that a restarted runner recognises its jobs.
            own = {
                "STINT_RUNNER_ID": f"runner-{number}",
                "STINT_STATE_DIR": environment.get("STINT_STATE_DIR") or str(self.data_dir.path / "state"),
                "STINT_DRAIN": environment.get("STINT_DRAIN") or DRAIN,
            }
            runners.append(self._service("runner", number, {**environment, **access("runner"), **own}))
        api = self._service("api", 1, {**environment, **access("api"), **listening}, api_ready)
        projector = self._service("projector", 1, {**environment, **access("projector")})
        keys = access(NATS_AUTH)
        auth = [self._service(NATS_AUTH, 1, {**environment, **keys})] if keys else []
        await self._start([projector, *auth], runners, [api])
        return url

    def _service(self, service: str, number: int, environment: Mapping[str, str], ready: Ready | None = None) -> Child:
        """One service. Without `ready`, its health port is asked for `/readyz`."""
        health_port = next(self._ports)
        others = {name for owner, login in LOGINS.items() if owner != service for name in (login, f"{login}_FILE")}
        return Child(
            name=f"{service}-{number}",
            command=[sys.executable, "-m", *(["stint", service] if service == NATS_AUTH else [f"stint_{service}"])],
            environment={
                **{name: value for name, value in environment.items() if name not in others},
                "STINT_HEALTH_PORT": str(health_port),
            },
            data_dir=self.data_dir,
            ready=ready or partial(_answers, f"http://127.0.0.1:{health_port}/readyz"),
            stop_within=runner_stop(environment) if service == "runner" else SERVICE_STOP,
        )


def runner_stop(environment: Mapping[str, str]) -> float:
    """Seconds that a runner with these settings may take to stop without being killed while it cleans up."""
    settings = load(RunnerSettings, environment)
    return settings.drain + settings.kill_grace + RUNNER_CLEAN_UP + RUNNER_MARGIN


async def _answers(url: str) -> bool:
    # This only asks a child process on loopback whether it is ready; its certificate may name another host.
    async with httpx.AsyncClient(verify=False, timeout=5.0, trust_env=False) as client:  # noqa: S501 - see above
        try:
            return (await client.get(url)).is_success
        except httpx.HTTPError:
            return False
