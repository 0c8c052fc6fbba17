"""Exits 0 if a container engine answers, else 69 with a sentence on standard error."""

import asyncio
import os
import sys

from stint.cli.dev.demo_image import connect
from stint.core.errors import EngineUnavailableError


async def main() -> int:
    """Ask the engine for its version, as DOCKER_HOST or the Docker context says."""
    try:
        async with connect():
            return os.EX_OK
    except EngineUnavailableError as error:
        print(error.sentence, file=sys.stderr)
        return os.EX_UNAVAILABLE


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
