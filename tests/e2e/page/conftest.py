"""One stack and one browser for all tests of the page."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import APIResponse, Browser, BrowserContext, Page, Route, expect

from tests.support.browser import chromium, sign_in, window
from tests.support.oidc import ROLE
from tests.support.ports import free_port
from tests.support.servers import ready
from tests.support.stack import Stack, dev, serving
from tests.support.waiting import until

RETENTION = 20 * 60
PARKED = 53
"""More than a page of the list."""
WIDE = {"width": 1280, "height": 900}

expect.set_options(timeout=30_000)  # as long as anything may take on a busy machine


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings = {"STINT_ERASURE": "off", "STINT_KEEP_PAYLOADS": "3600", "STINT_KILL_GRACE": "1", "STINT_OIDC_ROLE": ROLE}
    async with dev(tmp_path_factory.mktemp("page"), "--runners", "2", **settings) as stack:
        yield stack


@pytest.fixture
async def second_api(stack: Stack) -> AsyncIterator[str]:
    """The address of another API process on the same servers. It keeps no payloads, and ended jobs for `RETENTION`."""
    first = Path(f"/proc/{stack.pid('api-1')}/environ").read_text().split("\0")  # noqa: ASYNC240 - a moment
    settings = dict(one.split("=", 1) for one in first if one)
    port = free_port()
    own = {"STINT_PORT": str(port), "STINT_PORT_REPORT": "", "STINT_ERASURE": "on", "STINT_KEEP_PAYLOADS": "0"}
    own["STINT_RETENTION"] = str(RETENTION)
    async with serving("api", settings | own), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        await until(lambda: ready(http), seconds=60)
        yield str(http.base_url)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@asynccontextmanager
async def signed_in(
    browser: Browser, stack: Stack, path: str = "/", *, url: str = "", **options: Any
) -> AsyncIterator[Page]:
    """The page at this path, in a window of its own in which somebody has signed in; `url` is that of another API."""
    async with window(browser, url or stack.env["STINT_URL"], **options) as context:
        page = await context.new_page()
        await sign_in(page, stack.env["STINT_TOKEN"], path)
        yield page


@pytest.fixture
async def desk(browser: Browser, stack: Stack) -> AsyncIterator[BrowserContext]:
    """A wide window in which somebody is signed in."""
    async with signed_in(browser, stack, viewport=WIDE) as first:
        await first.close()
        yield first.context


@pytest.fixture
async def page(desk: BrowserContext) -> Page:
    return await desk.new_page()


@pytest.fixture(scope="session")
async def parked(stack: Stack) -> list[str]:
    """Jobs that wait in a paused queue, the last one first."""
    await pause(stack, "parked")
    jobs = [await stack.submit("true", qname="parked") for _ in range(PARKED)][::-1]
    await listed(stack, jobs[0])
    return jobs


async def lose_answer(page: Page, url: re.Pattern[str]) -> None:
    """The page's next request for `url` reaches the API, but the answer does not reach the page."""

    async def lost(route: Route) -> None:
        await _answered(route)
        await route.abort()

    await page.route(url, lost, times=1)


async def _answered(route: Route) -> APIResponse:
    same_site = {"Sec-Fetch-Site": "same-origin"}  # which Chromium adds only behind Playwright's back
    return await route.fetch(headers={**route.request.headers, **same_site})


@asynccontextmanager
async def overtaken(page: Page, url: re.Pattern[str]) -> AsyncIterator[asyncio.Event]:
    """The answer to the page's next request for `url` comes at the end of the block, and others overtake it.

    The event is set once the API has made it.
    """
    made, free = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        answer = await _answered(route)
        made.set()
        await free.wait()
        await route.fulfill(response=answer)

    await page.route(url, late, times=1)
    yield made
    async with page.expect_event("requestfinished", lambda request: bool(url.search(request.url))):
        free.set()


@asynccontextmanager
async def held_back(page: Page, url: str) -> AsyncIterator[asyncio.Event]:
    """The page's requests for `url`, a regular expression, wait for the end of the block.

    The event is set once there is one.
    """
    asked, free = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        asked.set()
        await free.wait()
        await route.continue_()

    await page.route(re.compile(url), late)
    try:
        yield asked
    finally:
        free.set()


async def drawn(page: Page) -> None:
    """Return once the page has drawn what has come: for what must not be there afterwards."""
    await page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


async def live(page: Page) -> None:
    """Wait until the page hears of changes."""
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()


async def pause(stack: Stack, qname: str) -> None:
    async with stack.http() as http:
        answer = await http.post(f"/v1/api/queue/{qname}/pause", json={"reason": "the tests park jobs here"})
    assert answer.is_success, answer.text


async def listed(stack: Stack, job_id: str, **filters: str) -> str:
    """The job, once it is in the list with these filters: what comes later is not put in before it is asked for."""
    async with stack.http() as http:
        await until(
            lambda: http.get("/v1/api/job", params={"id": job_id, **filters}), lambda answer: answer.json()["data"]
        )
    return job_id


async def sign_out(page: Page) -> None:
    await page.get_by_label(re.compile("account")).click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_title("Sign in · Stint")
