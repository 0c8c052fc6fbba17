"""Looks at the API, at Vault and what the token may do, and at what services need: NATS and the container engine."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from stint.cli.doctor.finding import WITHIN, Finding, bad, clock, ok, skipped, warn, words
from stint.cli.settings import is_there, without_login
from stint.client import ApiRefusedError, Client, Endpoints, QueueInfo
from stint.client.rest.connection import http_client, parsed, refusal
from stint.core.codec import decode
from stint.core.errors import ConfigError, StintError, UndecodableError, VaultDeniedError
from stint.vault.client import Vault
from stint.vault.hvac_adapter import check_address
from stint.vault.policies import CLIENT, queue_path

MEND: Final = "Start `stint api`, or correct STINT_URL: `stint config` shows where it is from."
READY_WITHIN: Final = 2 * WITHIN
"""Seconds in which an API says whether it is ready: it waits 5 of them for a Vault that hangs, before it says so."""
_MOST: Final = 10
"""Queues that stand still and are told of, at most."""
_STATES: Final[Mapping[int, tuple[str, str]]] = {
    501: ("is not initialised", "vault operator init, then: stint vault-setup"),
    503: ("is sealed", "vault operator unseal"),
}
_SHORT: Final = 600.0
"""Seconds: a token that ends sooner may end while a job is followed."""
NATS: Final = (2, 12)
"""The first version that has all that Stint uses."""
_SOCKET: Final = "/var/run/docker.sock"


async def look_at_api(where: Endpoints) -> list[Finding]:
    """Whether the API can do its work and accepts the token, and whether queues can continue."""
    url = without_login(where.url)
    try:
        async with http_client(where) as http:
            answers = await _answers(http)
    except ConfigError as error:
        return [bad("api", error.sentence, "Correct the setting; `stint config` shows where it is from.")]
    except TimeoutError:
        return [bad("api", f"{url} does not answer in time", MEND)]
    except httpx.HTTPError as error:
        return [bad("api", f"{url} cannot be used: {words(error)}.", MEND)]
    if answers[-1].is_server_error:
        return [_not_ready(url, answers[-1])]
    ready, health, listed = answers
    if (figures := parsed(health.content)) is None:
        return [bad("api", f"{url} does not answer as Stint does", MEND)]
    clocks = [*clock("api", ready.headers.get("date")), *clock("nats", (parsed(listed.content) or {}).get("now"))]
    return [ok("api", f"{url} is ready"), *clocks, *_runners(figures), *await _queues(where)]


def _not_ready(url: str, answer: httpx.Response) -> Finding:
    if answer.headers.get("content-type", "").startswith("text/html"):  # a proxy's page
        return bad("api", refusal(answer).sentence, MEND)
    reason = (parsed(answer.content) or {}).get("error") or answer.text.strip()
    return bad("api", f"{url} is not ready: {reason}", "Mend what it names; its log says more.")


async def _answers(http: httpx.AsyncClient) -> list[httpx.Response]:
    """Those of `/readyz`, the health and the runners, up to the first that says that the API cannot answer."""
    answers = list[httpx.Response]()
    for path, within in (("/readyz", READY_WITHIN), ("/v1/api/health", WITHIN), ("/v1/api/runner", WITHIN)):
        answers.append(await _get(http, path, within))
        if answers[-1].is_server_error:
            break
    return answers


async def _get(http: httpx.AsyncClient, url: str, within: float) -> httpx.Response:
    """Like `http.get`, but all of it within so many seconds. Raises TimeoutError after that."""
    async with asyncio.timeout(within):
        return await http.get(url)


def _runners(figures: Mapping[str, Any]) -> list[Finding]:
    if figures.get("operating_system"):
        containers = figures.get("containers_running", "?")
        return [ok("runners", f"at least one is alive; containers that run on their engines: {containers}")]
    what = f"none is alive; jobs that wait: {figures.get('queued_jobs') or 0}"
    return [bad("runners", what, "Start `stint runner` on a machine with Docker.")]


async def _queues(where: Endpoints) -> list[Finding]:
    try:
        async with asyncio.timeout(WITHIN), Client.connect(where, patience=0) as stint:
            queues = await stint.queues()
    except ApiRefusedError as error:
        if error.temporary:
            return [bad("queues", error.sentence, "Look at the API's log.")]
        mend = "Use a token with the policy stint-client, or policies on its queues: `vault token lookup`."
        return [bad("permissions", error.sentence, mend)]
    except TimeoutError:
        return [bad("queues", f"the API has not listed them within {WITHIN:g} s", "Look at the API's log.")]
    except StintError as error:
        return [bad("queues", error.sentence, "Look at the API's log.")]
    accepted = ok("permissions", f"the API accepts the token; queues that it may read: {len(queues)}")
    # First those that nobody lets wait on purpose: ten that are paused must not hide them.
    still = sorted(filter(None, map(_standstill, queues)), key=lambda finding: finding.verdict != "bad")
    return [accepted, *still[:_MOST]]


def _standstill(queue: QueueInfo) -> Finding | None:
    name = f"queue {queue.name!r}"
    if queue.held:
        mend = f"Make sure that its container is gone, then: stint release {queue.running}"
        return warn(name, f"waits for the lost runner of job {queue.running}", mend)
    if queue.paused and queue.depth:
        what = f"was paused by {queue.paused.who}; jobs that wait: {queue.depth}"
        return warn(name, what, f"When it may continue: stint resume {quote(queue.name)}")
    if queue.depth and not queue.served:
        return bad(name, f"no runner serves it; jobs that wait: {queue.depth}", "Start a runner that takes its jobs.")
    return None


async def look_at_vault(where: Endpoints, queue: str | None) -> list[Finding]:
    """Whether Vault answers, and whether the token may do what `stint run` does; in one queue, if that is given."""
    url = without_login(where.vault_addr)
    mend = "Start Vault, or correct VAULT_ADDR and VAULT_CACERT: `stint config` shows where they are from."
    try:
        address = check_address(where.vault_addr)
        # Without a proxy from the environment, as all else reaches Vault.
        async with httpx.AsyncClient(verify=where.vault_cacert or True, trust_env=False) as http:
            answer = await _get(http, f"{address}/v1/sys/health?standbyok=true&perfstandbyok=true", WITHIN)
    except ConfigError as error:
        return [bad("vault", error.sentence, mend)]
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return [bad("vault", f"{url} cannot be used: {words(error)}.", mend)]
    if answer.is_error:
        state, mend = _STATES.get(answer.status_code, (f"answers with an error ({answer.status_code})", mend))
        return [bad("vault", f"{url} {state}", mend)]
    found = [ok("vault", f"{url} is unsealed"), *clock("vault", answer.headers.get("date"))]
    try:
        async with Vault(where.vault_addr, cacert=where.vault_cacert) as vault:
            return [*found, await _token(vault, where.token), *await _rights(vault, where, queue)]
    except VaultDeniedError:
        unknown = "Vault does not know the token: it has ended, or is another Vault's."
        return [*found, bad("token", unknown, "stint login, or vault login")]
    except StintError as error:
        return [*found, bad("vault", error.sentence, "Look at Vault's log.")]


async def _token(vault: Vault, token: str) -> Finding:
    caller = await vault.lookup_self(token)
    who = f"{caller.display_name}, with the policies {', '.join(caller.policies)}"
    if 0 < caller.ttl < _SHORT:
        return warn("token", f"{who}; it ends in {caller.ttl:.0f} s", "vault token renew, or stint login")
    if caller.num_uses:
        mend = "Use a token without a limit: each request to Stint takes a use."
        return warn("token", f"{who}; it has {caller.num_uses} uses left", mend)
    return ok("token", who)


async def _rights(vault: Vault, where: Endpoints, queue: str | None) -> list[Finding]:
    needed = {
        f"transit/encrypt/{where.role}": ("update", "seal jobs"),
        f"auth/approle/role/{where.role}/secret-id": ("update", "request wrapped secret ids"),
        "auth/token/create": ("update", "create the token that hands over a job"),
    }
    if queue is not None:
        needed[queue_path(queue)] = ("create", f"submit jobs to {queue!r}")
    held = await vault.own_capabilities(where.token, [*needed])
    mend = f"Give it the policy {CLIENT} (stint vault-setup creates it), and check STINT_ROLE, which is {where.role}."
    missing = [
        bad("policies", f"the token may not {what} ({capability} on {path})", mend)
        for path, (capability, what) in needed.items()
        if not {capability, "root"} & held[path]
    ]
    return missing or [ok("policies", "the token may do all that `stint run` does")]


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
            address = (parts.hostname, parts.port or 4222)
            reader, writer = await asyncio.open_connection(*address, happy_eyeballs_delay=0.25)
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
        transport = httpx.AsyncHTTPTransport(uds=socket)
        async with httpx.AsyncClient(transport=transport) as http:
            answer = await _get(http, "http://docker/info", WITHIN)
            info = decode(answer.content, dict)
    except (httpx.HTTPError, UndecodableError, TimeoutError) as error:
        if not os.access(socket, os.W_OK):
            return [bad("docker", f"this user may not use {socket}", "Add the runner's user to the socket's group.")]
        return [bad("docker", f"{socket} cannot be used: {words(error)}.", "Start the Docker engine.")]
    if answer.is_error:
        what = f"{socket} answers with an error ({answer.status_code})"
        return [bad("docker", what, "Look at the log of the Docker engine.")]
    found = [ok("docker", f"version {info.get('ServerVersion')}, {info.get('OperatingSystem')}")]
    found += clock("docker", info.get("SystemTime"))
    if not info.get("LiveRestoreEnabled"):
        mend = 'Set "live-restore": true in /etc/docker/daemon.json.'
        found.append(warn("docker", "a restart of the engine ends all jobs", mend))
    return found
