"""Looks at what only the services need: NATS and the container engine."""

import asyncio
import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from stint.cli.doctor.finding import WITHIN, Finding, bad, clock_at, ok, skipped, warn, words
from stint.cli.settings import is_there, without_login
from stint.core.codec import decode
from stint.core.errors import UndecodableError

NATS: Final = (2, 12)
"""The first version that has all that Stint uses."""
_SOCKET: Final = "/var/run/docker.sock"


async def look_at_nats(url: str) -> list[Finding]:
    """What each server says of itself before anybody logs in."""
    if not url:
        return [skipped("nats", "STINT_NATS_URL is not set: only services and direct publishers need it")]
    return [await _nats(server.strip()) for server in url.split(",")]


async def _nats(url: str) -> Finding:
    shown, mend = without_login(url), "Start nats-server, or correct STINT_NATS_URL."
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        async with asyncio.timeout(WITHIN):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
            line = await reader.readline()
            writer.close()
        info = decode(line.removeprefix(b"INFO "), dict)
    except (OSError, ValueError, UndecodableError) as error:
        return bad("nats", f"{shown} does not answer as a NATS server: {words(error)}.", mend)
    if not info.get("jetstream"):
        return bad("nats", f"{shown} runs without JetStream", "Start nats-server with -js, or a jetstream block.")
    version = str(info.get("version", ""))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < NATS:
        return bad("nats", f"{shown} is version {version}", "Stint needs nats-server 2.12 or newer.")
    return ok("nats", f"{shown} is version {version}, with JetStream")


async def look_at_docker() -> list[Finding]:
    """Whether the engine answers this user, how its clock is, and whether containers survive its restart."""
    host = os.environ.get("DOCKER_HOST") or f"unix://{_SOCKET}"
    if not host.startswith("unix://"):
        return [skipped("docker", f"{host} is on another machine")]
    socket = host.removeprefix("unix://")
    if not await asyncio.to_thread(is_there, Path(socket)):
        return [skipped("docker", f"there is no {socket}: only runners need an engine")]
    try:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), timeout=WITHIN) as http:
            info = decode((await http.get("http://docker/info")).content, dict)
    except (httpx.HTTPError, UndecodableError) as error:
        if not os.access(socket, os.W_OK):
            return [bad("docker", f"this user may not use {socket}", "Add the runner's user to the socket's group.")]
        return [bad("docker", f"{socket} does not answer: {words(error)}.", "Start the Docker engine.")]
    found = [ok("docker", f"version {info.get('ServerVersion')}, {info.get('OperatingSystem')}")]
    found += clock_at("docker", info.get("SystemTime"))
    if not info.get("LiveRestoreEnabled"):
        mend = 'Set "live-restore": true in /etc/docker/daemon.json.'
        found.append(warn("docker", "a restart of the engine ends all jobs", mend))
    return found
