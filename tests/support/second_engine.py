"""A Docker engine of a test's own, beside the one of this machine."""

import contextlib
import grp
import io
import os
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import aiodocker
import httpx

from tests.support.servers import PLAIN, ServerProcess, ready

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BRIDGE_NAME_RANDOM = 4
"""Bytes; a network device's name has at most 15 characters."""


@dataclass
class EngineProcess(ServerProcess):
    """A dockerd with storage, sockets and a bridge of its own; it touches neither iptables nor the other engine.

    Needs root, or a sudo that asks nothing. End it by `stop`: only then its containers end too.

    Attributes:
        options: further arguments of dockerd.
        bridge: a network device that is there, with an address.
        run_dir: a folder with a short name, for sockets.
        namespace: in containerd: that of the system is shared by all engines.
    """

    # After a SIGKILL it waits for its old containerd, and gives each container that still runs ten seconds to end.
    READY: ClassVar[float] = 60.0

    options: Sequence[str] = ()
    bridge: str = ""
    run_dir: Path = Path()
    namespace: str = field(default_factory=lambda: f"stint-{secrets.token_hex(6)}")

    @property
    def host(self) -> str:
        """Its DOCKER_HOST."""
        return f"unix://{self.run_dir / 'docker.sock'}"

    async def load(self, image: str) -> None:
        """Copy an image from this machine's engine to it."""
        async with aiodocker.Docker() as ours, aiodocker.Docker(url=self.host) as its_own:
            async with ours.images.export_image(image) as exported:
                content = await exported.read()
            async for _ in its_own.images.import_image(io.BytesIO(content), stream=True):
                pass

    def _command(self) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        arguments = {
            "--host": self.host,
            "--group": grp.getgrgid(os.getgid()).gr_name,
            "--data-root": self.data_dir / "data",
            "--exec-root": self.run_dir / "exec",
            "--pidfile": self.run_dir / "docker.pid",
            "--bridge": self.bridge,
            "--containerd-namespace": self.namespace,
            "--containerd-plugins-namespace": f"{self.namespace}-plugins",
        }
        flags = ["--iptables=false", "--ip6tables=false", "--ip-masq=false", *self.options]
        named = [str(part) for pair in arguments.items() for part in pair]
        return [*_as_root(), "setpriv", "--pdeathsig", "TERM", "dockerd", *named, *flags], {"PATH": _PATH}

    async def _ready(self) -> bool:
        transport = httpx.AsyncHTTPTransport(uds=self.host.removeprefix("unix://"), verify=PLAIN)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            return await ready(client, "/_ping")


@contextlib.asynccontextmanager
async def second_engine(folder: Path, *options: str, room: int = 0) -> AsyncIterator[EngineProcess]:
    """Run one for the duration of the block, on a disk of `room` bytes. Nothing of it stays but its log in `folder`."""
    with _bridge() as bridge, _short_folder() as run_dir:
        engine = EngineProcess(folder / "engine", options=options, bridge=bridge, run_dir=run_dir)
        try:
            if room:
                (engine.data_dir / "data").mkdir(parents=True)
                _root("mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(engine.data_dir / "data"))
            await engine.start()
            yield engine
        finally:
            await engine.stop()
            _unmount(engine.data_dir)
            _root("rm", "-rf", str(engine.data_dir / "data"))


@contextlib.contextmanager
def _bridge() -> Iterator[str]:
    """A bridge with an address that is probably nobody else's."""
    name = f"stint{secrets.token_hex(_BRIDGE_NAME_RANDOM)}"
    address = f"10.{secrets.choice(range(64, 250))}.{secrets.randbelow(256)}.1/24"
    _root("ip", "link", "add", name, "type", "bridge")
    try:
        _root("ip", "addr", "add", address, "dev", name)
        _root("ip", "link", "set", name, "up")
        yield name
    finally:
        _root("ip", "link", "del", name)


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    """A socket's path has at most 107 bytes: pytest's own folders are too long."""
    folder = Path(tempfile.mkdtemp(prefix="stint-"))
    try:
        yield folder
    finally:
        _unmount(folder)
        _root("rm", "-rf", str(folder))


def _unmount(folder: Path) -> None:
    """What an engine that was killed has left mounted there."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for place in reversed(mounted):  # the last one lies deepest
        if place.startswith(f"{folder}/"):
            _root("umount", "--lazy", place)


def _root(*command: str) -> None:
    environ = {**os.environ, "PATH": _PATH}
    subprocess.run([*_as_root(), *command], check=True, capture_output=True, env=environ)


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]
