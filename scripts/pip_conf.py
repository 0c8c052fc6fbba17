"""This machine's way to Python packages, for a build in a container: its pip's settings, and its certificates."""

import ast
import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_WORDS: Final = {"index", "links", "host", "proxy", "timeout", "retries"}
"""Of options that say where packages come from."""


async def pip_conf(cert: str) -> str:
    """A pip.conf of what pip here was told, by files and by the environment, as far as it holds elsewhere.

    `cert` is where the certificates will be, "" for those that pip brings. An address in it may hold a password: the
    text is a secret.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pip", "config", "list", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    options = dict(_options(out.decode()))
    if cert:
        options["cert"] = cert
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())


def ca_bundle() -> Path | None:
    """The certificates that programs here are told to trust, if they are told."""
    names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    paths = [Path(os.environ[name]) for name in names if os.environ.get(name)]
    return next((path for path in paths if path.is_file()), None)


def _options(listed: str) -> Iterator[tuple[str, str]]:
    """Name and value of what `pip config list` shows, in its order: what comes later counts.

    Left out is what says something else, or only for one command, or names files of this machine.
    """
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        values = str(ast.literal_eval(value)).split()
        is_local = any(value.startswith("/") for value in values)
        if section in {"global", ":env:"} and _WORDS & {*option.split("-")} and not is_local:
            yield option, " ".join(values)
