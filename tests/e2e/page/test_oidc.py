"""Signing in at an OIDC provider on another site: from the link to the list of jobs, and out again."""

import re

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.page.conftest import listed, sign_out
from tests.support.browser import window
from tests.support.oidc import PASSWORD, USER, Provider, provider
from tests.support.stack import Stack

pytestmark = pytest.mark.soak


@pytest.fixture
async def people(stack: Stack) -> Provider:
    return await provider(stack.env["VAULT_ADDR"], stack.env["VAULT_TOKEN"], stack.env["STINT_URL"])


async def sign_in_there(page: Page, people: Provider) -> None:
    """Follow the link, and fill in OpenBao's own page, which then leads back."""
    await page.get_by_role("link", name="Sign in with OIDC").click()
    await page.wait_for_url(re.compile(f"^{people.issuer}/ui/vault/auth"))
    await page.get_by_label("Method").select_option("Username")
    await page.get_by_label("Username").fill(USER)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign In").click()


async def test_from_the_link_to_the_jobs_out_and_in_again(browser: Browser, stack: Stack, people: Provider) -> None:
    """The provider knows one the second time, and leads back at once; also after a sign-in that failed."""
    job_id = await listed(stack, await stack.ended("echo hello"))
    async with window(browser, stack.env["STINT_URL"]) as context:
        page = await context.new_page()
        await page.goto(f"/jobs/{job_id}?from=chat&since=1h#L1")
        await sign_in_there(page, people)
        await expect(page.locator(".ln code").first).to_have_text("hello")
        assert page.url.endswith(f"/jobs/{job_id}?since=1h#L1"), "without what the page does not know"
        cookies = {one["name"]: (one["sameSite"], one["httpOnly"]) for one in await context.cookies(page.url)}
        assert list(cookies.values()) == [("Strict", True)], "that of the sign-in is gone"
        await page.goto("/jobs")
        await expect(page.get_by_role("link", name=job_id[-8:])).to_be_visible()
        await sign_out(page)
        await page.goto("/sign-in/oidc/callback?code=stolen&state=st_unknown")
        await expect(page.get_by_role("alert")).to_contain_text("This browser has not begun the sign-in")
        for path in ("/", "/queues"):
            await page.get_by_role("link", name="Sign in with OIDC").click()
            await expect(page.get_by_label(re.compile("account"))).to_be_visible()
            assert page.url == f"{stack.env['STINT_URL']}{path}"
            await sign_out(page)
            await page.goto("/queues")
