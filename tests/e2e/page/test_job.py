"""A job's page: what it shows while the job runs, and that nothing that a job writes does anything."""

import re

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.api.client import in_steps
from tests.e2e.page.conftest import held_back, live, overtaken, pause, signed_in
from tests.support.stack import Stack

pytestmark = pytest.mark.soak

FOOT = "[data-lines]"
FAST = """() => {
  const field = document.activeElement;
  field.value = "line 1234";
  field.dispatchEvent(new InputEvent("input"));
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
}"""
"""Types faster than the search begins."""
CORPUS = r"""
printf '<img src=x onerror=alert(1)><script>alert(2)</script>\n'
printf '{{7*7}} ${7*7} javascript:alert(3)\n'
printf '\033]0;a new title\007\033]52;c;YWJj\007\033]8;;javascript:alert(4)\033\\link\033]8;;\033\\\n'
printf '\033[2J\033[1;1H\033[?1049h\033[8mhidden\033[0m \033[38;5;16;48;5;16mblack on black\033[0m\n'
printf 'bidi \342\200\256lived\342\200\254, zero \342\200\213width, \363\240\201\201tag, byte \351\n'
printf '10%%\r20%%\r\033[K30%%\n'
printf 'e\314\201\314\201\314\201\314\201\314\201\314\201\314\201\314\201\314\201\314\201\314\201\314\201zalgo\n'
head -c 1048576 /dev/zero | tr '\0' x; echo
"""


async def lines(page: Page) -> list[str]:
    return await page.locator(".ln code").all_inner_texts()


async def test_output_grows_as_the_job_writes_and_a_kill_stops_it(page: Page, stack: Stack) -> None:
    job_id = await stack.submit("i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done", qname="watched")
    await page.goto(f"/jobs/{job_id}")
    await expect(page.locator(".ln code", has_text=re.compile("^line 3$"))).to_be_visible()
    await expect(page).to_have_title(re.compile(f"^Running: {job_id[-8:]} in watched"))
    await expect(page.get_by_role("button", name="Follow", exact=True)).to_have_attribute("aria-pressed", "true")
    await page.get_by_role("button", name="Kill…").click()
    await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    await page.get_by_role("button", name=f"Kill {job_id[-8:]}").click()
    await expect(page.get_by_role("heading", name="Failed")).to_be_visible()
    await expect(page.locator("[data-facts]")).to_contain_text("killed")
    await expect(page.get_by_text("Whole", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Delete…").click()
    await page.get_by_role("button", name=f"Delete {job_id[-8:]}").click()
    await expect(page).to_have_url(re.compile("/jobs$"))
    async with stack.http() as http:
        assert (await http.get(f"/v1/api/job/{job_id}")).status_code == httpx.codes.NOT_FOUND


async def test_a_failed_job_says_how_and_where(page: Page, stack: Stack) -> None:
    job_id = await stack.ended("for i in $(seq 200); do echo line $i; done; echo the last words >&2; exit 3")
    await page.goto(f"/jobs/{job_id}")
    await expect(page).to_have_title(f"Failed, exit code 3: {job_id[-8:]} in e2e · Stint")
    told = page.locator(".notice.failed")
    await expect(told).to_contain_text("The command ended with exit code 3. The last line on stderr: the last words")
    await told.get_by_role("link").click()
    await expect(page).to_have_url(re.compile(r"#L\d+$"))
    await expect(page.locator(".ln.to code")).to_have_text("the last words")


async def test_nothing_that_a_job_writes_does_anything(page: Page, stack: Stack) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    job_id = await stack.ended(CORPUS, qname="<img src=x onerror=alert(5)>")
    await page.goto(f"/jobs/{job_id}")
    await expect(page.locator(FOOT)).to_have_text("8 lines")
    # The last one is counted when it begins, and drawn a frame later.
    await expect(page.locator(".ln code").nth(7)).to_have_text(re.compile("1,046,576 more$"))
    shown = await lines(page)
    assert shown[0] == "<img src=x onerror=alert(1)><script>alert(2)</script>"
    assert shown[2:4] == ["link", "hidden black on black"]
    assert shown[4] == "bidi U+202ElivedU+202C, zero U+200Bwidth, U+E0041tag, byte \\xe9"
    assert shown[5] == "30%"
    assert shown[6].endswith("+4zalgo")
    assert len(shown[7]) < 3000
    assert await page.locator("main img, main script").count() == 0
    assert "a new title" not in await page.title()
    grounds = await page.locator(".ln code span").evaluate_all(
        "all => all.filter(e => e.textContent === 'black on black')"
        ".map(e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor])"
    )
    assert grounds
    assert all(front != ground for front, ground in grounds)
    assert dialogs == []


async def test_lines_keep_their_numbers_and_any_of_20000_can_be_reached(page: Page, stack: Stack) -> None:
    count = 20_000
    job_id = await stack.ended(f"i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo line $i; done")
    await page.goto(f"/jobs/{job_id}#L12345")
    marked = page.locator(".ln.to")
    await expect(marked.locator("code")).to_have_text("line 12345")
    await expect(marked.locator("i")).to_have_attribute("data-n", "12345")
    await expect(page.locator(FOOT)).to_have_text("20,000 lines")
    assert await page.locator(".ln").count() < 200, "only what can be seen is in the page"
    await page.keyboard.press("Control+f")
    await page.keyboard.type("line 77")
    hits = page.locator("[data-hits]")
    await expect(hits).to_have_text("111 found")
    await page.keyboard.press("Enter")
    await expect(page.locator("mark.now").first).to_be_visible()
    await expect(hits).to_have_text("1 of 111")
    await page.get_by_role("button", name="Only matching lines").click()
    await expect(page.locator(".ln i").first).to_have_attribute("data-n", "77")
    await page.locator("[data-find-output]").focus()
    await page.evaluate(FAST)
    await expect(hits).to_have_text(re.compile(r"^\d+ of 11$"))  # 1234, 12340 to 12349
    await expect(page.locator("mark.now").first).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
async def test_numbers_of_any_length_stay_on_their_line(page: Page, stack: Stack, width: int) -> None:
    job_id = await stack.ended("seq 100100")
    await page.set_viewport_size({"width": width, "height": 900})
    await page.goto(f"/jobs/{job_id}#L100050")
    number = page.locator(".ln.to i")
    await expect(number).to_have_attribute("data-n", "100050")
    rows = "(i) => i.getBoundingClientRect().height / Number.parseFloat(getComputedStyle(i).lineHeight)"
    assert await number.evaluate(rows) == 1
    assert await number.evaluate("(i) => i.scrollWidth <= i.clientWidth"), "it does not run into what is beside it"


async def test_output_that_is_there_is_not_said_to_be_none_before_it_comes(page: Page, stack: Stack) -> None:
    job_id = await stack.ended("echo something")
    async with held_back(page, "/events") as asked:
        await page.goto(f"/jobs/{job_id}")
        await asked.wait()
        await expect(page.locator(FOOT)).to_have_text("")
    await expect(page.locator(FOOT)).to_have_text("1 line")


async def test_of_a_long_output_the_end_is_there_and_no_more_is_claimed(desk: BrowserContext, stack: Stack) -> None:
    await desk.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await desk.new_page()
    job_id = await stack.ended("seq 100000")
    await page.route(re.compile("from_line="), lambda route: route.abort())
    await page.goto(f"/jobs/{job_id}")
    await expect(page.locator(FOOT)).to_have_text("100,000 lines")
    await expect(page.get_by_text("100000", exact=True)).to_be_in_viewport()
    await page.locator("[data-find-output]").fill("no such text")
    await expect(page.locator("[data-hits]")).to_have_text("0 found …")
    await page.get_by_role("button", name="Copy all lines").click()
    await expect(page.locator(".notice")).to_contain_text("Only what is here was copied, from line")


async def test_a_button_that_copies_twice_keeps_its_name(desk: BrowserContext, stack: Stack) -> None:
    await desk.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await desk.new_page()
    await page.clock.install()
    await page.goto(f"/jobs/{await stack.submit('true')}")
    button = page.locator("[data-copy-id]")
    for _ in range(2):
        await button.click()
        await page.evaluate("navigator.clipboard.writeText('after it')")
        await expect(button).to_have_attribute("title", "Copied")
    await page.clock.run_for(5_000)
    assert await button.get_attribute("title") == "Copy the job's id"


async def test_copying_gives_the_lines_and_a_download_the_bytes(page: Page, stack: Stack) -> None:
    job_id = await stack.ended(r"printf '\033[31mred\033[0m\nplain\n'; for i in $(seq 500); do echo $i; done")
    await page.goto(f"/jobs/{job_id}")
    await expect(page.locator(FOOT)).to_have_text("502 lines")
    await page.locator(".lines").focus()
    await page.keyboard.press("Control+a")
    async with page.expect_event("console", lambda message: message.text.startswith("copied:")) as copied:
        await page.evaluate(
            "document.addEventListener('copy', e => console.log('copied:' + e.clipboardData.getData('text/plain')))"
        )
        await page.keyboard.press("Control+c")
    wanted = "\n".join(["red", "plain", *map(str, range(1, 501))])
    assert (await copied.value).text == f"copied:{wanted}"
    async with page.expect_download() as started:
        await page.get_by_role("link", name=re.compile("Download")).click()
    path = await (await started.value).path()
    assert path.read_bytes().startswith(b"\x1b[31mred\x1b[0m\nplain\n1\n")


async def test_all_lines_can_be_copied_and_reached_though_few_are_loaded(desk: BrowserContext, stack: Stack) -> None:
    job_id = await stack.ended(f"yes {'x' * 100} | head -n 20000 | cat -n")
    await desk.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await desk.new_page()
    for keys, said in ((["Control+a", "Control+c"], "Copied"), (["Home"], "")):
        async with held_back(page, "from_line="):
            await page.goto(f"/jobs/{job_id}")
            await expect(page.locator("[data-gone]")).to_contain_text("Here from line")
            await page.locator(".lines").focus()
            for key in keys:
                await page.keyboard.press(key)
        await expect(page.locator("[data-gone]")).to_be_empty()
        await expect(page.locator("[data-say]")).to_have_text(said)
    await expect(page.locator(".ln code").first).to_contain_text(" 1")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert [int(line.split()[0]) for line in copied.split("\n")] == [*range(1, 20_001)]


async def test_following_ends_where_the_reader_goes_up(page: Page, stack: Stack) -> None:
    job_id = await stack.submit("for i in $(seq 300); do echo line $i; done; while true; do echo more; sleep 0.2; done")
    await page.goto(f"/jobs/{job_id}")
    follow = page.get_by_role("button", name="Follow", exact=True)
    await expect(page.locator(".ln code", has_text="more").first).to_be_visible()
    await page.locator(".lines").hover()
    await page.mouse.wheel(0, -1500)
    await expect(follow).to_have_attribute("aria-pressed", "false")
    before = await page.locator(".lines").evaluate("e => e.scrollTop")
    pill = page.get_by_role("button", name=re.compile(r"\d+ new lines"))
    await expect(pill).to_be_visible()
    assert await page.locator(".lines").evaluate("e => e.scrollTop") == before, "nothing moves under the reader"
    await pill.click()
    await expect(follow).to_have_attribute("aria-pressed", "true")
    await stack.kill(job_id)


async def test_while_the_api_is_away_nothing_can_be_changed_and_no_output_is_lost(
    desk: BrowserContext, page: Page, stack: Stack
) -> None:
    """No line is missing or there twice, and the numbers are the same."""
    job_id = await stack.submit("i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.25; done", qname="long")
    await page.goto(f"/jobs/{job_id}")
    connection, kill = page.locator("[data-connection]"), page.get_by_role("button", name="Kill…")
    await expect(page.locator(".ln code", has_text=re.compile("^line 4$"))).to_be_visible()
    await expect(kill).to_be_enabled()
    await desk.set_offline(True)
    await stack.restart("api-1")
    await expect(connection).to_contain_text("Not connected for", timeout=15_000)
    await expect(kill).to_be_disabled()
    await desk.set_offline(False)
    await expect(connection).to_have_text("Live", timeout=15_000)
    await expect(page.get_by_text("Whole", exact=True)).to_be_visible(timeout=60_000)
    await expect(page.locator(FOOT)).to_have_text("60 lines")
    await page.get_by_role("button", name="Wrap lines").click()
    numbers = await page.evaluate(
        """async () => {
          const found = new Map(), log = document.querySelector('.lines');
          for (let top = 0; top <= log.scrollHeight; top += 200) {
            log.scrollTop = top;
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            for (const {children: [n, , , code]} of document.querySelectorAll('.ln'))
              found.set(Number(n.dataset.n), code.innerText);
          }
          return [...found].sort((a, b) => a[0] - b[0]);
        }"""
    )
    assert numbers == [[n, f"line {n}"] for n in range(1, 61)]


@pytest.mark.parametrize("job_id", ["0123456789abcdef01234567", "no-id"])
async def test_a_job_that_is_not_there_is_said_to_be_not_there(page: Page, job_id: str) -> None:
    await page.goto(f"/jobs/{job_id}")
    await expect(page.get_by_role("heading", name="No such job")).to_be_visible()


async def test_a_job_that_is_deleted_while_it_is_looked_at_is_not_there(page: Page, stack: Stack) -> None:
    await pause(stack, "never")
    job_id = await stack.submit("true", qname="never")
    await page.goto(f"/jobs/{job_id}")
    await expect(page.get_by_role("heading", name="Queued")).to_be_visible()
    await live(page)
    async with stack.http() as http:
        assert (await http.delete(f"/v1/api/job/{job_id}")).is_success
    await expect(page.get_by_role("heading", name="No such job")).to_be_visible()
    await expect(page).to_have_title("No such job · Stint")
    await page.keyboard.press("c")


async def test_a_job_whose_payload_is_kept_runs_again(page: Page, stack: Stack) -> None:
    job_id = await stack.submit(in_steps("echo once more", "exit 3"), qname="again")
    await page.goto(f"/jobs/{job_id}")
    again = page.get_by_role("button", name="Run again…")
    await expect(page.get_by_role("heading", name="Running")).to_be_visible()
    await expect(again).to_have_count(0)
    await stack.go_on(job_id)
    await expect(page.get_by_role("heading", name="Failed")).to_be_visible()
    await again.click()
    await expect(page.get_by_role("dialog")).to_contain_text("goes to the end of again, as a new one")
    await page.get_by_role("button", name="Run it again").click()
    await expect(page).not_to_have_url(re.compile(job_id))
    await expect(page.locator(".ln code").first).to_have_text("once more")
    await expect(page.locator("[data-facts]").get_by_role("link", name=job_id[-8:])).to_be_visible()
    second = page.url.rpartition("/")[2]
    await stack.go_on(second)
    assert (await stack.end(second))["rerun_of"] == job_id


async def test_what_was_begun_is_told_although_its_question_was_closed_meanwhile(page: Page, stack: Stack) -> None:
    job_id = await stack.ended("exit 3", qname="again")
    await page.goto(f"/jobs/{job_id}")
    await page.get_by_role("button", name="Run again…").click()
    async with overtaken(page, re.compile("/rerun$")) as made:
        await page.get_by_role("button", name="Run it again").click()
        await made.wait()
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(page).not_to_have_url(re.compile(job_id))
    assert (await stack.end(page.url.rpartition("/")[2]))["rerun_of"] == job_id


async def test_where_no_payload_is_kept_no_rerun_is_offered(browser: Browser, stack: Stack, second_api: str) -> None:
    job_id = await stack.ended("exit 3", qname="again")
    async with signed_in(browser, stack, f"/jobs/{job_id}", url=second_api) as page:
        await expect(page.get_by_role("button", name="Delete…")).to_be_visible()
        await expect(page.locator("[data-history] li")).to_have_count(4)
        await expect(page.get_by_role("button", name="Run again…")).to_have_count(0)
