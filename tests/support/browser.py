"""A browser, driven by Playwright, and what must never be in its console."""

import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.support import no_netlink

CHROMIUM = os.environ.get("CHROMIUM", "chromium")
"""Debian's: Playwright's own would be downloaded."""
_STATUS = "Failed to load resource: the server responded with a status of"
"""What Chromium says of each answer that is no success. Tests look at those themselves."""
_AWAY = "Failed to load resource: net::ERR_"
"""Likewise of a server that is not there."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    with TemporaryDirectory() as home:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=_launcher(Path(home)),
                args=["--no-sandbox"],  # a container's root user cannot have one
                env={**os.environ, "HOME": home},
            )
            try:
                yield browser
            finally:
                await browser.close()


def _launcher(folder: Path) -> Path:
    """A command that starts Chromium without news of the network: Playwright takes no command with arguments."""
    found = shutil.which(CHROMIUM)
    assert found, f"there is no command {CHROMIUM}"
    launcher = folder / "chromium"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, no_netlink.__file__, found])} "$@"\n')
    launcher.chmod(0o700)
    return launcher


@asynccontextmanager
async def window(browser: Browser, url: str, **options: Any) -> AsyncIterator[BrowserContext]:
    """A window with cookies of its own. An error in the console of one of its pages fails the test."""
    errors: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith((_STATUS, _AWAY)):
            errors.append(message.text)

    def opened(page: Page) -> None:
        page.on("console", heard)
        page.on("pageerror", lambda error: errors.append(str(error)))

    context = await browser.new_context(base_url=url, **options)
    context.on("page", opened)
    context.set_default_timeout(20_000)
    try:
        yield context
    finally:
        await context.close()
    assert not errors, errors


async def sign_in(page: Page, token: str, path: str = "/") -> None:
    await page.goto(path)
    await page.get_by_label("Vault token").fill(token)
    async with page.expect_navigation():  # also where the token is refused
        await page.get_by_role("button", name="Sign in").click()
