"""What the page is under conditions that are not its own: a wrong clock, forced colours, zoom, a budget."""

import re

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from tests.e2e.page.conftest import WIDE, listed, live, signed_in
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.soak

VIEWS = ["/jobs", "/jobs/{job}", "/queues", "/queues/seen", "/runners", "/submit", "/audit"]
HOURS_AHEAD = """
  const Real = Date, off = 3 * 3600e3;
  globalThis.Date = class extends Real {
    constructor(...given) { super(...(given.length ? given : [Real.now() + off])); }
    static now() { return Real.now() + off; }
  };
"""
FIRST_ROW = """
  new MutationObserver((_, watch) => {
    if (!document.querySelector('tbody tr')) return;
    globalThis.firstRow = performance.now();
    watch.disconnect();
  }).observe(document, { childList: true, subtree: true });
"""
FOCUSED = """() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  return [document.activeElement.outerHTML.slice(0, 100), outlineStyle, parseFloat(outlineWidth)];
}"""
BROKEN = """() => [...document.querySelectorAll('.brand, .nav a, .conn')].filter((word) => {
  const text = document.createRange();
  text.selectNodeContents(word.lastChild);
  return text.getClientRects().length > 1;
}).map((word) => word.textContent)"""
PAPER = """() => {
  dispatchEvent(new Event("beforeprint"));
  const lines = document.querySelectorAll(".paper .ln"), [last] = [...lines].slice(-1);
  const { right, bottom } = last.getBoundingClientRect(), { color } = getComputedStyle(last.querySelector("code > *"));
  const shown = [".top", ".tools", ".spacer"].filter((name) => document.querySelector(name).checkVisibility());
  return { lines: lines.length, high: bottom > 18 * lines.length, wide: right > innerWidth, color, shown };
}"""
LOCAL = "({ dateTime }) => new Date(dateTime).toLocaleString('sv').slice(5)"
SPACED = "* { letter-spacing: .12em !important; word-spacing: .16em !important; line-height: 1.5 !important; }"
COVERS = """(places) => places.filter((place) => {
  const text = document.createRange(), cell = place.closest("td") ?? place;
  text.selectNodeContents(place);
  return text.getBoundingClientRect().right > cell.getBoundingClientRect().right;
}).map((place) => place.textContent)"""
SIZES = """() => [...new Set([...document.querySelectorAll('body *')].map((one) => getComputedStyle(one).fontSize))]
  .map(parseFloat).toSorted((a, b) => a - b)"""
CUT = """() => {
  const boxes = '.btn, .pick, .in1, .find input, kbd, th, td:not(.clip), .phases li, .facts > *';
  const cut = ({ scrollHeight, clientHeight, scrollWidth, clientWidth }) =>
    scrollHeight > clientHeight + 1 || scrollWidth > clientWidth + 1;
  return [...document.querySelectorAll(boxes)].filter((one) => one.checkVisibility() && cut(one))
    .map((one) => one.outerHTML.slice(0, 100));
}"""
"""What does not fit into its own box."""
TOUCHING = """() => {
  const tops = [...document.querySelectorAll('.spacer > .ln')].map((line) => line.getBoundingClientRect())
    .sort((a, b) => a.top - b.top);
  return tops.length > 9 && tops.every(({ top }, i) => !i || Math.abs(top - tops[i - 1].bottom) < 1);
}"""
"""Whether each line of the output begins where the one before ends."""
LINES = 300
FULL = 50
FIRST_VIEW_BYTES = 30_000
LONGEST = 300
TRIES = 10


async def test_times_are_the_servers_whatever_this_machines_clock_says(desk: BrowserContext, stack: Stack) -> None:
    job_id = await listed(stack, await stack.submit("sleep 600", qname="clocks"))
    await desk.add_init_script(HOURS_AHEAD)
    page = await desk.new_page()
    await page.goto("/jobs?queue=clocks&since=15m")
    row = page.locator("tbody tr")
    await expect(row.locator(".c-t")).to_have_text(re.compile(r"^(just now|\d+ s ago|\d min ago)$"))
    await expect(row.locator(".c-d")).to_have_text(re.compile(r"^(\d min )?[\d.]+ s$"))
    await expect(page.locator(".notice")).to_contain_text("This machine's clock is 3 h ahead of the server's.")
    await page.goto(f"/jobs/{job_id}")
    await expect(page.locator("[data-for]")).to_have_text(re.compile(r"^for (\d min )?[\d.]+ s$"))
    await stack.kill(job_id)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_the_audit_tells_the_day_where_one_is(browser: Browser, stack: Stack, zone: str) -> None:
    """One of the two always has another day than UTC."""
    await stack.ended("true", qname="days")
    async with stack.http() as http:  # the audit is about a second old
        await until(lambda: http.get("/v1/api/audit?qname=days"), lambda answer: answer.json()["data"])
    async with signed_in(browser, stack, "/audit?queue=days", timezone_id=zone) as page:
        told = page.locator("tbody time").first
        await live(page)
        assert await told.text_content() == await told.evaluate(LOCAL)


async def test_forced_colours_tell_what_has_the_focus_and_what_is_chosen(browser: Browser, stack: Stack) -> None:
    """On every view, without the grounds that tell it otherwise."""
    job_id = await stack.ended("echo out", qname="seen")
    chosen = {
        "/jobs": (".kinds [aria-current]", ".kinds .success"),
        "/jobs/{job}": (".seg [aria-pressed=true]", ".seg [aria-pressed=false]"),
    }
    async with signed_in(browser, stack, forced_colors="active") as page:
        for view in VIEWS:
            await page.goto(view.format(job=job_id))
            await live(page)
            for _ in range(12):
                await page.keyboard.press("Tab")
                element, style, width = await page.evaluate(FOCUSED)
                assert style != "none", f"{view}: {element}"
                assert width >= 1, f"{view}: {element}"
            colours = [await colour(page.locator(part).first) for part in chosen.get(view, ())]
            assert len(colours) == len(set(colours)), view


async def colour(element: Locator) -> str:
    return str(await element.evaluate("(element) => getComputedStyle(element).color"))


async def test_text_that_is_spaced_wider_covers_no_other(browser: Browser, stack: Stack) -> None:
    """As some need it to read (WCAG 1.4.12)."""
    job_id = await listed(stack, await stack.ended("true", qname="spaced"))
    async with signed_in(browser, stack, f"/jobs/{job_id}", viewport=WIDE, bypass_csp=True) as page:
        await expect(page.locator("[data-history] li")).to_have_count(4)
        await page.add_style_tag(content=SPACED)
        assert await page.locator(".hist time, .facts dt").evaluate_all(COVERS) == []
        await page.goto("/jobs?queue=spaced")
        await page.add_style_tag(content=SPACED)
        row = page.locator("tbody tr").first
        await row.locator(".st span").evaluate("(word) => (word.textContent = 'Not authorised')")
        await row.locator(".c-w").evaluate("(waited) => (waited.textContent = '12 min 34 s')")
        assert await row.locator(".st, .c-w").evaluate_all(COVERS) == []


async def test_all_text_grows_with_the_browsers_font_and_has_room(desk: BrowserContext, stack: Stack) -> None:
    job_id = await stack.ended("echo out; echo wrong >&2; exit 3", qname="seen")
    page = await desk.new_page()
    browser = await desk.new_cdp_session(page)
    for view in VIEWS:
        sizes: list[list[float]] = []
        for size in (16, 24):
            await browser.send("Page.setFontSizes", {"fontSizes": {"standard": size}})
            await page.goto(view.format(job=job_id))
            await live(page)
            sizes.append(await page.evaluate(SIZES))
            assert await page.evaluate(CUT) == [], view
            assert await page.evaluate(BROKEN) == [], view
            for width in (320, WIDE["width"]):
                await page.set_viewport_size({"width": width, "height": WIDE["height"]})
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (view, width, size)
        assert sizes[1] == [size * 1.5 for size in sizes[0]], view


async def test_output_has_room_when_the_browsers_font_grows_meanwhile(desk: BrowserContext, stack: Stack) -> None:
    """A script places its lines, each at a multiple of their height."""
    job_id = await stack.ended(f"seq {LINES}", qname="grows")
    page = await desk.new_page()
    browser = await desk.new_cdp_session(page)
    await page.goto(f"/jobs/{job_id}")
    await live(page)
    line = page.locator(".spacer > .ln").first
    for size in (24, 16):
        await browser.send("Page.setFontSizes", {"fontSizes": {"standard": size}})
        await expect(line).to_have_css("line-height", f"{1.125 * size:g}px")
        await until(lambda: page.evaluate(TOUCHING))


@pytest.mark.parametrize(("width", "height"), [(900, 700), (800, 600), (740, 340), (1280, 350)])
async def test_output_scrolls_in_a_pane_that_fits_any_window(
    browser: Browser, stack: Stack, width: int, height: int
) -> None:
    """Else all lines become elements, and nothing follows the end."""
    job_id = await stack.ended(f"seq {LINES}; exit 1", qname="panes")
    async with signed_in(browser, stack, f"/jobs/{job_id}", viewport={"width": width, "height": height}) as page:
        await expect(page.locator(".ln code").get_by_text(str(LINES), exact=True)).to_be_visible()
        assert await page.locator(".ln").count() < LINES / 2
        high = await page.locator(".lines.scripted").evaluate("(lines) => lines.clientHeight")
        assert height / 2 < high < height
        assert await page.evaluate(BROKEN) == []


async def test_a_job_is_printed_with_all_its_lines_dark_on_white(desk: BrowserContext, stack: Stack) -> None:
    job_id = await stack.ended(f"seq {LINES - 1}; echo {'long ' * 100}", qname="printed")
    page = await desk.new_page()
    await desk.add_cookies([{"name": "stint-theme", "value": "dark", "url": stack.env["STINT_URL"]}])
    await page.goto(f"/jobs/{job_id}")
    await expect(page.locator(".logfoot").get_by_text(f"{LINES} lines")).to_be_visible()
    await page.emulate_media(media="print")
    found = await page.evaluate(PAPER)
    assert found == {"lines": LINES, "high": True, "wide": False, "color": "rgb(23, 27, 33)", "shown": []}
    await page.pdf()
    await expect(page.locator(".paper")).to_have_count(0)


async def test_the_first_view_is_small_and_fast(desk: BrowserContext, parked: list[str]) -> None:
    """With a full page of jobs. The time is the best of some: others use the machine, too."""
    assert len(parked) >= FULL
    await desk.add_init_script(FIRST_ROW)
    times = []
    for _ in range(TRIES):
        page = await desk.new_page()
        sizes = await transferred(page)
        await page.goto("/jobs?queue=parked")
        await expect(page.locator("tbody tr")).to_have_count(FULL)
        await live(page)
        times.append(await page.evaluate("firstRow"))
        assert sum(sizes) <= FIRST_VIEW_BYTES
        await page.close()
        if times[-1] <= LONGEST:
            return
    pytest.fail(f"the first row came after {sorted(map(round, times))} ms")


async def transferred(page: Page) -> list[int]:
    """The bytes of each answer from now on, with its headers, as they come.

    What other tests' queues make longer does not come.
    """
    network, sizes = await page.context.new_cdp_session(page), list[int]()
    network.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    await network.send("Network.enable")
    await network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    await network.send("Network.setBlockedURLs", {"urls": ["*/v1/api/queue"]})
    return sizes
