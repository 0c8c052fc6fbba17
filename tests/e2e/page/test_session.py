"""Who is signed in, from where a session counts, and when it ends."""

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.e2e.page.conftest import sign_out
from tests.support.browser import sign_in, window
from tests.support.stack import Stack

pytestmark = pytest.mark.soak

JOBS = "/v1/api/job"
CHANGE = """async ([path, headers]) => {
  const answer = await fetch(path, {method: 'POST', headers});
  return [answer.status, (await answer.json()).error];
}"""


async def cookie(context: BrowserContext) -> dict[str, str]:
    found = [one for one in await context.cookies() if one["name"].startswith("__Host-stint")]
    assert [(one["httpOnly"], one["secure"], one["sameSite"]) for one in found] == [(True, True, "Strict")]
    return {"Cookie": f"{found[0]['name']}={found[0]['value']}"}


async def test_one_signs_in_where_one_wanted_to_go_and_the_line_stays(browser: Browser, stack: Stack) -> None:
    job_id = await stack.submit("echo hello")
    async with window(browser, stack.env["STINT_URL"]) as context:
        page = await context.new_page()
        answer = await page.goto(f"/jobs/{job_id}#L1")
        assert answer
        assert answer.status == httpx.codes.UNAUTHORIZED
        await sign_in(page, stack.env["STINT_TOKEN"], f"/jobs/{job_id}#L1")
        assert page.url.endswith(f"/jobs/{job_id}#L1")
        await cookie(context)


async def test_the_cookie_counts_only_for_requests_of_the_page(desk: BrowserContext, stack: Stack) -> None:
    """What a page of another site could send, or a program, is refused although the cookie is right."""
    sent = await cookie(desk)
    ours = {"Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(base_url=stack.env["STINT_URL"], headers=sent) as http:
        assert (await http.get(JOBS, headers=ours)).status_code == httpx.codes.OK
        assert (await http.get(JOBS)).status_code == httpx.codes.BAD_REQUEST, "no token: the cookie does not count"
        for site in ("cross-site", "same-site", "none"):
            answer = await http.get(JOBS, headers={"Sec-Fetch-Site": site})
            assert answer.status_code == httpx.codes.BAD_REQUEST, site
        both = await http.get(JOBS, headers=ours | {"X-Auth-Token": stack.env["STINT_TOKEN"]})
        assert both.status_code == httpx.codes.BAD_REQUEST
        assert "both" in both.json()["error"]


async def test_changes_need_the_proof_that_only_the_page_has(page: Page, stack: Stack) -> None:
    job_id = await stack.ended("true")
    await page.goto("/jobs")
    kill = f"{JOBS}/kill/{job_id}"
    status, error = await page.evaluate(CHANGE, [kill, {}])
    assert (status, error) == (403, "The request does not come from Stint's page. Load it again.")
    status, _ = await page.evaluate(CHANGE, [kill, {"X-Stint-Csrf": "0" * 64}])
    assert status == httpx.codes.FORBIDDEN
    proof = await page.locator('meta[name="stint-csrf"]').get_attribute("content")
    status, _ = await page.evaluate(CHANGE, [kill, {"X-Stint-Csrf": proof}])
    assert status == httpx.codes.OK


async def test_the_page_cannot_be_framed_and_makes_no_html_of_text(browser: Browser, stack: Stack) -> None:
    page = await browser.new_page()  # the browser reports this on its console, which fails other tests
    answer = await page.goto(f"{stack.env['STINT_URL']}/jobs")
    assert answer
    policy = answer.headers["content-security-policy"]
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
    assert answer.headers["x-frame-options"] == "DENY"
    with pytest.raises(Exception, match="TrustedHTML"):
        await page.evaluate("document.body.innerHTML = '<p>x</p>'")
    await page.close()


async def test_a_link_from_another_site_finds_who_is_signed_in(desk: BrowserContext, stack: Stack) -> None:
    """Strict cookies do not come with it: the page asks once more by itself."""
    page = await desk.new_page()
    elsewhere = "http://elsewhere.invalid/"
    link = f'<a href="{stack.env["STINT_URL"]}/queues">link</a>'
    await page.route(elsewhere, lambda route: route.fulfill(body=link, content_type="text/html"))
    await page.goto(elsewhere)
    await page.get_by_role("link").click()
    await expect(page).to_have_title("Queues · Stint")


async def test_signing_out_ends_streams_in_every_tab_and_leaves_a_form(desk: BrowserContext, stack: Stack) -> None:
    job_id = await stack.submit("sleep 600")
    job, form, other = [await desk.new_page() for _ in range(3)]
    sent = await cookie(desk) | {"Sec-Fetch-Site": "same-origin"}
    await job.goto(f"/jobs/{job_id}")
    await expect(job.get_by_text("Live")).to_be_visible()
    await form.goto("/submit")
    await form.get_by_label("Image").fill("busybox")
    await other.goto("/queues")
    await sign_out(other)
    await expect(job.get_by_text("The session has ended.")).to_be_visible()
    async with httpx.AsyncClient(base_url=stack.env["STINT_URL"]) as http:
        assert (await http.get(JOBS, headers=sent)).status_code == httpx.codes.UNAUTHORIZED
    async with form.expect_response("**/session/secret-id") as answer:
        await form.get_by_role("button", name="Submit to").click()
    assert (await answer.value).status == httpx.codes.UNAUTHORIZED
    await expect(form.get_by_text("The session has ended. Sign in again.")).to_be_visible()
    await expect(form.locator("[data-notices] .notice")).to_have_count(1)
    await expect(form.get_by_label("Image")).to_have_value("busybox")
    await stack.kill(job_id)
