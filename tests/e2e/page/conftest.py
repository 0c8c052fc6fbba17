"""One stack and one browser for all tests of the page."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.e2e.stack import Stack, dev
from tests.support.browser import chromium, sign_in, window

expect.set_options(timeout=30_000)  # as long as anything may take on a busy machine


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory, busybox: str) -> AsyncIterator[Stack]:
    assert busybox
    async with dev(tmp_path_factory.mktemp("page"), "--runners", "2", STINT_KILL_GRACE="1") as stack:
        yield stack


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def desk(browser: Browser, stack: Stack) -> AsyncIterator[BrowserContext]:
    """A wide window in which somebody is signed in."""
    async with window(browser, stack.env["STINT_URL"], viewport={"width": 1280, "height": 900}) as context:
        first = await context.new_page()
        await sign_in(first, stack.env["STINT_TOKEN"])
        await first.close()
        yield context


@pytest.fixture
async def page(desk: BrowserContext) -> Page:
    return await desk.new_page()
