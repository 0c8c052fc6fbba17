"""Signing in at an OIDC provider on another site: from the link to the list of jobs, and out again."""

import re
from functools import partial
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from stint.core.errors import VaultError
from stint.vault import Vault
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


async def tokens_of(stack: Stack, who: str) -> list[str]:
    """The accessors of all tokens with this display name."""
    vault, root, found = Vault(stack.env["VAULT_ADDR"]), stack.env["VAULT_TOKEN"], []
    every = await vault.call(root, lambda client: client.auth.token.list_accessors())
    for accessor in every["data"]["keys"]:
        try:
            token = await vault.call(root, partial(_look_up, accessor=accessor))
        except VaultError:  # it ended meanwhile
            continue
        found += [accessor] if token["data"]["display_name"] == who else []
    return found


async def _look_up(client: Any, *, accessor: str) -> Any:
    return await client.auth.token.lookup_accessor(accessor)


async def sign_out(page: Page) -> None:
    await page.get_by_label(re.compile("account")).click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_title("Sign in · Stint")


async def test_from_the_link_to_the_jobs_and_out(browser: Browser, stack: Stack, people: Provider) -> None:
    job_id = await stack.ended("echo hello")
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
        assert len(await tokens_of(stack, people.who)) == 1
        await sign_out(page)
        assert await tokens_of(stack, people.who) == []


async def test_a_provider_that_knows_one_leads_back_at_once(browser: Browser, stack: Stack, people: Provider) -> None:
    """Also after a sign-in that failed."""
    async with window(browser, stack.env["STINT_URL"]) as context:
        page = await context.new_page()
        for path in ("/runners", "/sign-in/oidc/callback?code=stolen&state=st_unknown", "/queues"):
            await page.goto(path)
            if "stolen" in path:
                await expect(page.get_by_role("alert")).to_contain_text("This browser has not begun the sign-in")
            if path == "/runners":
                await sign_in_there(page, people)
            else:
                await page.get_by_role("link", name="Sign in with OIDC").click()
            await expect(page.get_by_label(re.compile("account"))).to_be_visible()
            assert page.url == f"{stack.env['STINT_URL']}{'/' if 'stolen' in path else path}"
            await sign_out(page)
