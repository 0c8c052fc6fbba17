"""Looks at Stint's API, and at what it knows of runners and queues."""

import asyncio
from collections.abc import Mapping
from shlex import quote
from typing import Any, Final

import httpx

from stint.cli.doctor.finding import WITHIN, Finding, bad, clock, clock_at, ok, warn, words
from stint.cli.settings import without_login
from stint.client import ApiRefusedError, Client, Endpoints
from stint.client.rest.connection import http_client, parsed
from stint.core.errors import ConfigError, StintError

MEND: Final = "Start `stint api`, or correct STINT_URL: `stint config` shows where it is from."
READY_WITHIN: Final = 2 * WITHIN
"""Seconds in which an API says whether it is ready: it waits 5 of them for a Vault that hangs, before it says so."""
_MOST: Final = 10
"""Queues that are told of at most."""


async def look(where: Endpoints) -> list[Finding]:
    """Whether the API can do its work and accepts the token, and whether queues can continue."""
    url = without_login(where.url)
    try:
        async with http_client(where) as http:
            async with asyncio.timeout(READY_WITHIN):
                answer = await http.get("/readyz")
            if not answer.is_success:
                what = f"{url} is not ready: {answer.text.strip()}"
                return [bad("api", what, "Mend what it names; its log says more.")]
            async with asyncio.timeout(WITHIN):
                health = await http.get("/v1/api/health")
                listed = await http.get("/v1/api/runner")
    except ConfigError as error:
        return [bad("api", error.sentence, "Correct the setting; `stint config` shows where it is from.")]
    except TimeoutError:
        return [bad("api", f"{url} does not answer in time", MEND)]
    except httpx.HTTPError as error:
        return [bad("api", f"{url} is not reachable: {words(error)}.", MEND)]
    if (figures := parsed(health.content)) is None:
        return [bad("api", f"{url} does not answer as Stint does", MEND)]
    clocks = [*clock("api", answer.headers), *clock_at("nats", (parsed(listed.content) or {}).get("now"))]
    return [ok("api", f"{url} is ready"), *clocks, *_runners(figures), *await _queues(where)]


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
        mend = "Use a token with the policy stint-client, or policies on its queues: `vault token lookup`."
        return [bad("permissions", error.sentence, mend)]
    except TimeoutError:
        return [bad("queues", f"the API has not listed them within {WITHIN:g} s", "Look at the API's log.")]
    except StintError as error:
        return [bad("queues", error.sentence, "Look at the API's log.")]
    found = [ok("permissions", f"the API accepts the token; queues that it may read: {len(queues)}")]
    for queue in queues[:_MOST]:
        name = f"queue {queue.name!r}"
        if queue.held:
            mend = f"Make sure that its container is gone, then: stint release {queue.running}"
            found.append(warn(name, f"waits for the lost runner of job {queue.running}", mend))
        elif queue.paused and queue.depth:
            what = f"was paused by {queue.paused.who}; jobs that wait: {queue.depth}"
            found.append(warn(name, what, f"When it may continue: stint resume {quote(queue.name)}"))
        elif queue.depth and not queue.served:
            what = f"no runner serves it; jobs that wait: {queue.depth}"
            found.append(bad(name, what, "Start a runner that takes its jobs."))
    return found
