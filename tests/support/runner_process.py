"""A runner as a process of its own, which a test may kill, freeze and start again."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ports import free_port
from tests.support.runner_bench import NETWORK, Bench
from tests.support.servers import ServerProcess, readyz

LEASE = 6.0
"""L in seconds: with it a lost runner is noticed soon."""
TAKEOVER = 8.0
"""T: as short as the times of such a lease allow."""
LONG_LEASE = 30.0
"""L in seconds, enough for a restart on a busy machine."""


@dataclass
class RunnerProcess(ServerProcess):
    """`python -m stint_runner` with a name that stays, on the servers of a bench."""

    name: str = "runner-1"
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.data_dir / "state" / self.name

    @property
    def watchdogs(self) -> list[int]:
        """Process ids of the watchdogs over its folder, of earlier processes too."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"stint_runner.watchdog" in words and str(self.state).encode() in words:
                found.append(int(path.parent.name))
        return found

    def kill_watchdogs(self) -> None:
        """SIGKILL all of them; one may end by itself at the same time."""
        for pid in self.watchdogs:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        return [sys.executable, "-m", "stint_runner"], self.environment

    @property
    def environment(self) -> Mapping[str, str]:
        self.port = self.port or free_port()
        own = {
            "STINT_RUNNER_ID": self.name,
            "STINT_STATE_DIR": str(self.state.parent),
            "STINT_HEALTH_PORT": str(self.port),
            "STINT_LEASE": str(LEASE),
            "STINT_TAKEOVER": str(TAKEOVER),
            "STINT_JOB_NETWORK": NETWORK,
        }
        return own | dict(self.settings)

    async def _ready(self) -> bool:
        started = '"runner ready"' in self.log.rpartition("--- start ---")[2]
        return started and (await readyz(self.port)).startswith("ready")

    async def start(self) -> "RunnerProcess":
        """Start it, again under its name."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("a", encoding="utf-8") as log:
            log.write("--- start ---\n")
        return await super().start()


def runner_process(bench: Bench, folder: Path, name: str = "runner-1", **settings: str) -> RunnerProcess:
    """A runner that is not started yet."""
    url = bench.broker.client.connected_url
    servers = {"STINT_NATS_URL": f"nats://{url.netloc}" if url else "", "VAULT_ADDR": bench.openbao.address}
    return RunnerProcess(folder / name, name=name, settings=bench.role_settings | servers | settings)


@asynccontextmanager
async def ended_at_last(runner: RunnerProcess) -> AsyncIterator[RunnerProcess]:
    """However often it is started in the block: neither it nor a watchdog of its is left behind."""
    try:
        yield runner
    finally:
        await runner.stop()
        runner.kill_watchdogs()
