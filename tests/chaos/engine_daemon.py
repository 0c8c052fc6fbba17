"""The scripted engine's daemon: containers are plain processes, its children, whatever becomes of its clients.

`python -m tests.chaos.engine_daemon FOLDER SLOW` listens on `FOLDER/engine.sock`. It ends, and its containers with it,
when its standard input is closed: nothing outlives the world that started it. A connection carries one request, a line
of JSON, and one answer.
"""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

SOCKET: Final = "engine.sock"
STDOUT: Final = "stdout"
STDERR: Final = "stderr"
NO_SUCH: Final = "No such container."
_CANNOT_RUN: Final = 127
_SIGNALLED: Final = 128


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """Sent back as the answer's `error`."""


@dataclass
class Container:
    """One container: its folder holds its output."""

    container_id: str
    folder: Path
    command: list[str]
    env: list[str]
    labels: dict[str, str]
    tty: bool
    exited: "asyncio.Future[int]"
    pid: int = 0
    started: bool = False
    pidfd: int = field(default=-1, repr=False)

    @property
    def running(self) -> bool:
        return self.started and not self.exited.done()

    def shown(self) -> dict[str, Any]:
        fields = ("container_id", "labels", "started", "tty")
        return {name: getattr(self, name) for name in fields}

    def start(self) -> None:
        self.started = True
        env = {"PATH": os.environ["PATH"], **dict(entry.split("=", 1) for entry in self.env if "=" in entry)}
        with (self.folder / STDOUT).open("ab") as out, (self.folder / STDERR).open("ab") as err:
            try:
                process = subprocess.Popen(
                    self.command,
                    env=env,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out if self.tty else err,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                self.exited.set_result(_CANNOT_RUN)
                raise Refusal(f"The command cannot be run: {error}") from None
        self.pid = process.pid
        self.pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self.pidfd, self._reap, process)

    def _reap(self, process: "subprocess.Popen[bytes]") -> None:
        """As with a container's first process, whatever it started ends with it."""
        asyncio.get_running_loop().remove_reader(self.pidfd)
        os.close(self.pidfd)
        self._signal_all(signal.SIGKILL)
        code = process.wait()
        self.exited.set_result(code if code >= 0 else _SIGNALLED - code)

    def kill(self) -> None:
        if self.running:
            self._signal_all(signal.SIGKILL)

    def terminate(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return


class Daemon:
    """All containers, and what can be asked of them."""

    def __init__(self, folder: Path, slow: float = 0.0) -> None:
        """With `slow` no process heeds SIGTERM, and a SIGKILL takes so many seconds."""
        self._folder = folder
        self._slow = slow
        self._containers: dict[str, Container] = {}

    async def answer(self, request: dict[str, Any]) -> Any:
        return await getattr(self, request.pop("do"))(**request)

    async def create(self, command: list[str], env: list[str], labels: dict[str, str], *, tty: bool) -> str:
        container_id = secrets.token_hex(32)
        folder = self._folder / container_id
        folder.mkdir()
        for name in (STDOUT, STDERR):
            (folder / name).touch()
        exited = asyncio.get_running_loop().create_future()
        self._containers[container_id] = Container(container_id, folder, command, env, labels, tty, exited)
        return container_id

    async def start(self, container_id: str) -> None:
        container = self._find(container_id)
        if not container.started:
            container.start()

    async def wait(self, container_id: str) -> int:
        return await asyncio.shield(self._find(container_id).exited)

    async def stop(self, container_id: str, grace: float) -> bool:
        container = self._containers.get(container_id)
        if container is None or not container.running:
            return False
        if not self._slow:
            container.terminate()
        await asyncio.wait({container.exited}, timeout=grace)
        await self._kill(container)
        await asyncio.wait({container.exited})
        return True

    async def kill(self, container_id: str) -> None:
        if container := self._containers.get(container_id):
            await self._kill(container)

    async def _kill(self, container: Container) -> None:
        await asyncio.sleep(self._slow if container.running else 0)
        container.kill()

    async def remove(self, container_id: str) -> None:
        container = self._containers.get(container_id)
        if container is None:
            return
        if container.running:
            await self._kill(container)
            await asyncio.wait({container.exited})
        if self._containers.pop(container_id, None) is None:
            return
        if container.started:
            await asyncio.wait({container.exited})
        elif not container.exited.done():
            container.exited.set_result(_SIGNALLED + signal.SIGKILL)  # it never ran: whoever waits goes on
        shutil.rmtree(container.folder)

    async def show(self, container_id: str) -> dict[str, Any]:
        return self._find(container_id).shown()

    async def find(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        """A label with the value "" is one of any value."""
        found = self._containers.values()
        for name, value in labels.items():
            found = [item for item in found if name in item.labels and value in {"", item.labels[name]}]  # type: ignore[assignment]
        return [container.shown() for container in found]

    async def count(self) -> dict[str, int]:
        running = sum(container.running for container in self._containers.values())
        return {"containers": len(self._containers), "containers_running": running}

    def close(self) -> None:
        for container in self._containers.values():
            container.kill()

    def _find(self, container_id: str) -> Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise Refusal(NO_SUCH) from None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = msgspec.json.decode(await reader.readline())
            try:
                answer = {"answer": await self.answer(request)}
            except Refusal as refusal:
                answer = {"error": str(refusal)}
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        except (ConnectionError, msgspec.DecodeError):
            return  # the client was killed in mid-sentence
        finally:
            writer.close()


async def main(folder: Path, slow: float) -> None:
    daemon = Daemon(folder, slow)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, lambda: None if os.read(0, 1) else ended.set())
    server = await asyncio.start_unix_server(daemon.serve, folder / SOCKET, limit=2**20, backlog=512)
    try:
        await ended.wait()
    finally:
        server.close()
        daemon.close()
        loop.remove_reader(sys.stdin)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
