"""What `up`, `smoke` and `down` share: Docker's command line, and the file that remembers how the stack was started."""

import asyncio
import json
import logging
import os
import sys
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from dotenv import dotenv_values

from stint.core.errors import StintError

ROOT: Final = Path(__file__).parents[1]
ENV_FILE: Final = Path(".stint-compose.env")
"""What `docker compose --env-file` and clients of the stack need. `.stint-compose.env` is not kept by git."""


class ContainersError(StintError):
    """The containers are not as they should be."""


async def docker(*arguments: str, env: Mapping[str, str] | None = None, check: bool = True, merge: bool = False) -> str:
    """Standard output of a `docker` command, with `merge` its standard error too. It does not outlive this call.

    Raises:
        ContainersError: it failed; the sentence is the last thing that it said.
    """
    process = await asyncio.create_subprocess_exec(
        "docker",
        *arguments,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if merge else asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode and check:
        said = last_line((err or out).decode())
        raise ContainersError(f"docker {arguments[0]} failed: {said or process.returncode}")
    return out.decode()


def last_line(text: str) -> str:
    """The last line with anything in it, or ""."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()


async def containers(env: Mapping[str, str], *services: str) -> Sequence[Mapping[str, Any]]:
    """The stack's containers, running or not, as `docker inspect` tells of them."""
    ids = (await docker("compose", "ps", "--all", "--quiet", *services, env=env)).split()
    found: Sequence[Mapping[str, Any]] = json.loads(await docker("inspect", *ids)) if ids else []
    return found


def service_of(container: Mapping[str, Any]) -> str:
    """Which service of compose.yaml it is a container of."""
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def known(path: Path) -> dict[str, str]:
    """What `up` wrote, as far as it did. A VAULT_ADDR and its like in the environment are of another stack."""
    return {name: value or "" for name, value in dotenv_values(path).items()}


def parser(description: str | None) -> ArgumentParser:
    """With the option that all three have."""
    made = ArgumentParser(description=description)
    made.add_argument("--env-file", type=Path, default=ENV_FILE, help="default: %(default)s")
    return made


def main(name: str, work: Callable[[], Awaitable[str]]) -> int:
    """Do it and say so in one line, and nothing else; returns the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        print(f"{name}: {asyncio.run(_awaited(work))}", flush=True)
    except (StintError, TimeoutError) as error:
        print(f"{name}: failed: {error.sentence if isinstance(error, StintError) else 'it took too long.'}", flush=True)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        return 130
    return 0


async def _awaited(work: Callable[[], Awaitable[str]]) -> str:
    return await work()
