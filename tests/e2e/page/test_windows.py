"""Many windows at a time: a browser has six connections to a host, and none of the windows may starve."""

import asyncio
from collections.abc import Sequence

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.e2e.page.conftest import live, pause
from tests.support.stack import Stack

pytestmark = pytest.mark.soak

WINDOWS = 7


async def opened(desk: BrowserContext, paths: Sequence[str]) -> list[Page]:
    pages = [await desk.new_page() for _ in paths]
    for page, path in zip(pages, paths, strict=True):
        await page.goto(path)
    return pages


async def test_seven_windows_hear_of_each_change_through_one_stream(desk: BrowserContext, stack: Stack) -> None:
    streams: list[str] = []
    desk.on("request", lambda request: streams.append(request.url) if "/v1/api/events" in request.url else None)
    pages = await opened(desk, ["/jobs?queue=seven"] * WINDOWS)
    for page in pages:
        await live(page)
    assert len(streams) == 1
    await stack.submit("true", qname="seven")
    for page in pages:
        await expect(page.get_by_role("button", name="1 new job")).to_be_visible()
    await pages[0].close()  # it read the stream
    await stack.submit("true", qname="seven")
    for page in pages[1:]:
        await expect(page.get_by_role("button", name="2 new jobs")).to_be_visible()
    assert len(streams) == 2, "the next window continues"


async def test_seven_windows_with_a_job_each_hear_of_its_end(desk: BrowserContext, stack: Stack) -> None:
    await pause(stack, "turns")
    jobs = [await stack.submit("true", qname="turns") for _ in range(WINDOWS)]
    pages = await opened(desk, [f"/jobs/{job_id}" for job_id in jobs])
    for page in pages:
        await expect(page.locator("[data-history] li")).to_have_count(1)
    await asyncio.gather(*map(stack.kill, jobs))
    for page in pages:
        await expect(page.get_by_role("heading", name="Failed")).to_be_visible()
        await expect(page.get_by_text("No output was lost.")).to_have_count(0)
