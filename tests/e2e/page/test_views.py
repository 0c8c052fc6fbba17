"""Queues, the form, the audit; each view without barriers, on a phone, by keys alone; and a token that ends."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from stint.core.names.ids import queue_token
from stint.vault import Vault
from stint.vault.setup import client_token
from tests.api.client import in_steps
from tests.e2e.page.conftest import WIDE, drawn, listed, live, lose_answer, overtaken, pause, signed_in
from tests.support.browser import sign_in, window
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.soak

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
BARRIERS = """async () => (await axe.run(document)).violations
  .filter(({impact}) => impact === 'serious' || impact === 'critical')
  .map(({id, nodes}) => `${id}: ${nodes.map((node) => node.target).join(' ')}`)"""
VIEWS = ["/jobs", "/jobs/{job}", "/queues", "/queues/looked-at", "/runners", "/submit", "/audit"]


async def test_a_queue_is_paused_with_a_reason_and_resumed(page: Page, stack: Stack) -> None:
    await stack.ended("true", qname="halted")
    await page.goto("/queues")
    queue = page.get_by_role("row", name=re.compile("halted"))
    await queue.get_by_role("button", name="Pause… halted").click()
    go = page.get_by_role("button", name="Pause it")
    await expect(go).to_be_disabled()
    await page.get_by_label("Why, for all who see the queue").fill("the database moves")
    await go.click()
    await expect(queue).to_contain_text("Paused")
    await expect(queue).to_contain_text("“the database moves”")
    job_id = await stack.submit("true", qname="halted")
    await expect(queue).to_contain_text("1 waiting")
    await queue.get_by_role("button", name="Resume halted").click()
    await page.get_by_role("button", name="Resume it").click()
    assert (await stack.end(job_id))["status"] == "success"
    await expect(queue).to_contain_text("Idle")


async def test_no_name_turns_its_text_around_or_looks_like_another(page: Page, stack: Stack) -> None:
    qname, image, reason = "prod-\u202egnitset", "evil\u202exobysub", "\u2067why"
    path = f"/queues/={queue_token(qname)}"
    async with stack.http() as http:
        await http.post(f"/v1/api{path.replace('queues', 'queue')}/pause", json={"reason": reason})
    waiting = await listed(stack, await stack.submit("true", qname=qname, container_image=image))
    failed = await stack.ended("true", container_image=image)
    async with stack.http() as http:  # the audit is about a second old
        await until(lambda: http.get("/v1/api/audit", params={"qname": qname}), lambda answer: answer.json()["data"])
    for view in ("/jobs", "/queues", path, f"/jobs/{waiting}", f"/jobs/{failed}", "/audit"):
        await page.goto(view)
        await live(page)
        shown = await page.locator("body").inner_text() + await page.title()
        assert "[U+202E]" in shown
        assert not {"\u202e", "\u2067"} & {*shown}, view
        hints = await page.locator("[title]").evaluate_all("(all) => all.map(({ title }) => title)")
        assert "\u202e" not in "".join(hints), view
    await page.goto("/queues")
    await live(page)
    queue = page.get_by_role("row", name=re.compile(re.escape("prod-[U+202E]gnitset")))
    await expect(queue).to_contain_text("“[U+2067]why”")
    await queue.get_by_role("button", name="Resume prod-[U+202E]gnitset").click()
    await expect(page.get_by_role("heading", name="Resume prod-[U+202E]gnitset?")).to_be_visible()
    await page.get_by_role("button", name="Resume it").click()
    assert (await stack.end(waiting))["reason"] == "image"
    await expect(queue).to_contain_text("Idle")


@pytest.mark.parametrize("view", ["queue", "runner"])
async def test_a_second_passes_before_a_table_has_its_answer(page: Page, stack: Stack, view: str) -> None:
    """Clocks leave the rows alone that the server has drawn."""
    await listed(stack, await stack.ended("true", qname="halted"), status="success")
    await page.clock.install()
    async with overtaken(page, re.compile(f"/v1/api/{view}$")):
        await page.goto(f"/{view}s")
        row = page.locator("tbody tr").first
        shown = await row.inner_text()
        await page.clock.run_for(2_000)
        assert await row.inner_text() == shown
    await expect(page.get_by_role("button", name=re.compile("Pause…|Resume|Drain…")).first).to_be_visible()


async def test_a_table_does_not_go_back_to_an_older_answer(page: Page, stack: Stack) -> None:
    await pause(stack, "overtaken")
    await listed(stack, await stack.submit("true", qname="overtaken"))
    await page.goto("/queues")
    queue = page.get_by_role("row", name=re.compile("overtaken"))
    await expect(queue).to_contain_text("1 waiting")
    await live(page)
    async with overtaken(page, re.compile("/v1/api/queue$")) as made:
        await stack.submit("true", qname="overtaken")
        await made.wait()
        await stack.submit("true", qname="overtaken")
        await expect(queue).to_contain_text("3 waiting")
    await drawn(page)
    assert await queue.locator(".c-w").text_content() == "3 waiting"


async def test_what_has_the_focus_keeps_it_when_more_is_known(page: Page, stack: Stack) -> None:
    """Else keys that are typed in this moment go nowhere, as does a click that has only begun."""
    job_id = await stack.submit(in_steps("echo up", "true"), qname="focused")
    await stack.writes(job_id)
    await page.goto("/queues")
    queue = page.get_by_role("row", name=re.compile("focused"))
    await expect(queue).to_contain_text("Active")
    button = queue.get_by_role("button", name="Pause…")
    await button.focus()
    await stack.go_on(job_id)
    await expect(queue).to_contain_text("Idle")
    await expect(button).to_be_focused()
    await pause(stack, "focused")
    job_id = await stack.submit(in_steps("echo up", "true"), qname="focused")
    await page.goto(f"/jobs/{job_id}")
    await page.get_by_role("button", name="Kill…").focus()
    async with stack.http() as http:
        await http.post("/v1/api/queue/focused/resume")
    await expect(page.get_by_role("heading", name="Running")).to_be_visible()
    await expect(page.get_by_role("button", name="Delete…")).to_have_count(0)
    await expect(page.get_by_role("button", name="Kill…")).to_be_focused()
    await page.goto("/runners")
    link = page.get_by_role("link", name=job_id[-8:])
    await link.focus()
    async with page.expect_response("**/v1/api/runner") as answer:  # it is asked for every few seconds
        body = await (await answer.value).json()
    next(runner["running"] for runner in body["data"] if job_id in runner["running"]).insert(0, "f" * 24)
    await page.route("**/v1/api/runner", lambda route: route.fulfill(json=body))
    await expect(page.get_by_role("link", name="f" * 8)).to_be_visible()
    await expect(link).to_be_focused()
    await stack.go_on(job_id)


async def test_runners_are_shown_with_what_they_run_and_a_drain_asks_first(page: Page, stack: Stack) -> None:
    job_id = await stack.submit("sleep 600", qname="on-a-runner")
    await page.goto("/runners")
    first, second = (page.get_by_role("row", name=re.compile(f"runner-{number}")) for number in (1, 2))
    await expect(page.get_by_role("row").filter(has=page.get_by_role("link", name=job_id[-8:]))).to_have_count(1)
    await stack.kill(job_id)
    await stack.end(job_id)
    await expect(first).to_contain_text("Alive")
    await second.get_by_role("button", name="Drain… runner-2").click()
    await expect(page.get_by_role("dialog")).to_contain_text("It takes no more jobs.")
    await page.get_by_role("button", name="Cancel").click()
    await expect(second.get_by_role("button", name="Drain… runner-2")).to_be_focused()


async def test_a_job_is_submitted_by_the_form_and_the_line_beside_it_says_the_same(page: Page, stack: Stack) -> None:
    await page.goto("/submit")
    await page.get_by_label("Queue").fill("by-form")
    await page.get_by_label("Image").fill("busybox")
    await page.get_by_label("Command", exact=True).fill("sh -c 'echo it works; cat /secrets.yml | wc -l'")
    await page.get_by_role("button", name="Add a secret").click()
    await page.get_by_label("Name of the secret").fill("PASSWORD")
    await page.get_by_label("Path and key in Vault").fill("kv/data/demo.password")
    await page.get_by_text("Time, memory").click()
    await page.get_by_label("Seconds that it may run").fill("60")
    await page.get_by_label("Memory").fill("64m")
    await page.get_by_label("If its runner is lost").select_option("hold")
    await page.get_by_label("Mask the values").check()
    line = (await page.get_by_label("Command line").inner_text()).replace("\\\n", " ").split("stint run ")[1]
    assert "--timeout 60 --memory 64m --on-lost hold --mask-secrets --" in " ".join(line.split())
    await page.get_by_role("button", name="Submit to by-form").click()
    await expect(page).to_have_url(re.compile("/jobs/[0-9a-f]{24}$"))
    await expect(page.locator(".ln code").first).to_have_text("it works")
    result = await stack.run("run", *shlex.split(line))
    assert (result.code, result.out.splitlines()[0]) == (0, "it works")


async def test_a_form_whose_answer_was_lost_is_sent_again_as_the_same_job(page: Page, stack: Stack) -> None:
    await page.goto("/submit")
    await page.get_by_label("Queue").fill("twice")
    await page.get_by_label("Image").fill("busybox")
    await page.get_by_label("Command", exact=True).fill("true")
    go = page.get_by_role("button", name="Submit to twice")
    await lose_answer(page, re.compile("/v1/api/job$"))
    await go.click()
    await expect(page.locator("#main").get_by_text("The API cannot be reached.")).to_be_visible()
    await go.click()
    await expect(page).to_have_url(re.compile("/jobs/[0-9a-f]{24}$"))
    job_id = await listed(stack, page.url.rpartition("/")[2])
    async with stack.http() as http:
        jobs = (await http.get("/v1/api/job", params={"qname": "twice"})).json()["data"]
    assert [job["_id"] for job in jobs] == [job_id]


async def test_a_dropped_folder_is_packed_and_becomes_the_jobs_content(page: Page, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "deep").mkdir(parents=True)
    (site / "go.sh").write_text("#!/bin/sh\ncat /deep/ünï.txt\n")
    (site / "deep" / "ünï.txt").write_text("from the folder\n")
    await page.goto("/submit")
    await page.get_by_label("Queue").fill("dropped")
    await page.get_by_label("Image").fill("busybox")
    await page.get_by_label("Command", exact=True).fill("/go.sh")
    await drop(page, site)
    await expect(page.locator("[data-size]")).to_have_text(re.compile(r"^site, 2 files: [\d.]+ (bytes|KB) packed\.$"))
    await expect(page.get_by_label("Command line")).to_contain_text("--content ./site")
    await page.get_by_role("button", name="Submit to dropped").click()
    await expect(page).to_have_url(re.compile("/jobs/[0-9a-f]{24}$"))
    await expect(page.locator(".ln code").first).to_have_text("from the folder")


SLOW_FOLDERS = """
  const free = new Promise((resolve) => (globalThis.release = resolve));
  let finish = () => {};
  globalThis.walked = new Promise((resolve) => (finish = resolve));
  const entryOf = DataTransferItem.prototype.webkitGetAsEntry;
  DataTransferItem.prototype.webkitGetAsEntry = function () {
    const entry = entryOf.call(this), create = entry.createReader.bind(entry);
    entry.createReader = () => {
      const reader = create(), read = reader.readEntries.bind(reader);
      const told = (take) => (found) => { take(found); if (!found.length) finish(); };
      reader.readEntries = (take, refuse) => free.then(() => read(told(take), refuse));
      return reader;
    };
    return entry;
  };
"""


async def test_the_later_of_two_choices_counts_though_it_is_read_first(page: Page, tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    await page.add_init_script(SLOW_FOLDERS)
    await page.goto("/submit")
    await drop(page, tmp_path / "slow")
    await page.locator('[data-input="files"]').set_input_files(tmp_path / "b.txt")
    said = page.locator("[data-size]")
    await expect(said).to_have_text(re.compile(r"^1 file: \d+ bytes packed\.$"))
    await page.evaluate("release(), walked")
    await drawn(page)
    assert str(await said.text_content()).startswith("1 file")


async def drop(page: Page, path: Path) -> None:
    box = await page.locator("[data-drop]").bounding_box()
    assert box
    browser = await page.context.new_cdp_session(page)
    where = {"x": box["x"] + 20, "y": box["y"] + 20}
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        await browser.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})


async def test_content_is_chosen_by_keys_and_taken_away_again(page: Page, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    # Listened for from the start: Playwright does not wait until Chromium has heard that somebody listens.
    chosen = asyncio.get_running_loop().create_future()
    page.once("filechooser", lambda chooser: chosen.set_result(chooser))  # noqa: PLW0108 - Playwright wants a function
    await page.goto("/submit")
    await live(page)
    choose, said = page.get_by_role("button", name="Choose files"), page.locator("[data-size]")
    await choose.focus()
    await page.keyboard.press("Enter")
    async with asyncio.timeout(20):
        await (await chosen).set_files([tmp_path / "a.txt"])
    await expect(said).to_have_text(re.compile(r"^1 file: \d+ bytes packed\.$"))
    await page.get_by_role("button", name="Remove").focus()
    await page.keyboard.press("Enter")
    await expect(said).to_have_text("Drop a folder, files or a .tar.gz here.")
    await expect(choose).to_be_focused()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
async def test_no_view_has_barriers_or_is_wider_than_its_window(browser: Browser, stack: Stack, look: str) -> None:
    job_id = await stack.ended("echo out; echo err >&2; exit 1", qname="looked-at")
    size = {"width": 360, "height": 740} if look == "phone" else WIDE
    scheme = "dark" if look == "dark" else "light"
    async with window(browser, stack.env["STINT_URL"], viewport=size, color_scheme=scheme, bypass_csp=True) as context:
        page = await context.new_page()
        await page.goto("/")
        await expect(page.get_by_label("Vault token")).to_be_visible()
        found = {"sign-in": await barriers(page)}
        await sign_in(page, stack.env["STINT_TOKEN"])
        for view in VIEWS:
            await page.goto(view.format(job=job_id))
            await live(page)
            await expect(page.locator(":is(tbody tr, .ln, form.panel, rect.touch)").first).to_be_visible()
            found[view] = await barriers(page)
            wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{view} scrolls sideways"
    assert {view: all_of_it for view, all_of_it in found.items() if all_of_it} == {}


async def test_on_a_phone_long_names_hide_nothing(browser: Browser, stack: Stack) -> None:
    queue = "team-platform-eu-west-1-production-database-migrations-and-more"
    job_id = await stack.submit("sleep 600", qname=queue)
    await pause(stack, queue)
    async with stack.http() as http:
        await until(lambda: http.get(f"/v1/api/audit?qname={queue}"), lambda answer: len(answer.json()["data"]) > 1)
    async with signed_in(browser, stack, "/queues", viewport={"width": 390, "height": 844}) as page:
        row = page.get_by_role("row", name=re.compile(queue))
        await expect(row.get_by_text("the tests park jobs here")).to_be_visible()
        boxes = [await row.locator(part).bounding_box() for part in (".name", ".c-n a", ".c-w", ".c-a .btn")]
        tops = [(box["y"], box["y"] + box["height"]) for box in boxes if box]
        assert tops[0][1] <= tops[1][0] < tops[1][1] <= min(tops[2][0], tops[3][0])
        await page.goto(f"/audit?queue={queue}")
        for name in ("b", "d", "q"):
            box = await page.locator(f".audit td.c-{name}").first.bounding_box()
            assert box
            assert box["width"] > 80, name
        await page.goto("/submit")
        await page.get_by_label("Queue").fill(queue)
        await expect(page.get_by_role("button", name=f"Submit to {queue}")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await stack.kill(job_id)


async def barriers(page: Page) -> list[str]:
    await page.add_script_tag(path=AXE)
    found: list[str] = await page.evaluate(BARRIERS)
    return found


async def test_keys_alone_lead_from_the_list_to_a_killed_job(page: Page, stack: Stack) -> None:
    job_id = await listed(stack, await stack.submit("sleep 600", qname="keys"))
    await page.goto("/jobs?queue=keys")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name=job_id[-8:])).to_be_focused()
    await page.keyboard.press("Enter")
    kill = page.get_by_role("button", name="Kill…")
    await expect(kill).to_be_visible()
    dialog = page.get_by_role("dialog")
    await kill.focus()
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(kill).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(dialog.get_by_role("button", name=re.compile("^Kill"))).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Failed")).to_be_visible()
    await expect(dialog).to_be_hidden()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("Follow the output")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("g")
    await page.keyboard.press("q")
    await expect(page).to_have_url(re.compile("/queues$"))


ASKED_AGAIN = """() => {
    document.querySelector("[data-dialog]").close();
    [...document.querySelectorAll("[data-acts] button")].find((button) => button.textContent === "Kill…").click();
}"""


async def test_a_question_asked_right_after_another_takes_no_key_and_closes_with_its_answer(
    page: Page, stack: Stack
) -> None:
    await page.goto(f"/jobs/{await stack.submit('sleep 600', qname='keys')}")
    dialog = page.get_by_role("dialog")
    await page.get_by_role("button", name="Kill…").click()
    await expect(dialog).to_be_visible()
    await page.evaluate(ASKED_AGAIN)  # before the browser has told that the first one was closed
    async with overtaken(page, re.compile("/kill/")) as made:
        await dialog.get_by_role("button", name=re.compile("^Kill")).click()
        await made.wait()
        await page.keyboard.press("?")
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("heading", name="Failed")).to_be_visible()


ASKED_TWICE = """() => {
    for (const _ of "??") document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "?", bubbles: true }));
}"""
TYPED_AS_IT_CLOSES = """keys => {
    document.querySelector("dialog[open]").close();
    for (const key of keys) document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
}"""


async def test_keys_typed_while_a_dialog_closes_are_taken(page: Page) -> None:
    await page.goto("/jobs")
    await page.evaluate(ASKED_TWICE)
    await expect(page.get_by_role("dialog")).to_contain_text("Go to Queues")
    await page.evaluate(TYPED_AS_IT_CLOSES, "gq")
    await expect(page).to_have_url(re.compile("/queues$"))


async def test_a_revoked_token_is_said_to_have_ended_and_what_is_read_stays(browser: Browser, stack: Stack) -> None:
    job_id = await stack.submit("echo to be read; sleep 600", qname="revoked")
    token = await client_token(stack.env["VAULT_ADDR"], stack.env["VAULT_TOKEN"])
    async with window(browser, stack.env["STINT_URL"]) as context:
        page = await context.new_page()
        await sign_in(page, token, f"/jobs/{job_id}")
        await expect(page.locator(".ln code").first).to_have_text("to be read")
        await Vault(stack.env["VAULT_ADDR"]).revoke_self(token)
        told = page.locator(".notice.notauthorised")
        await expect(told).to_contain_text("your token any more", timeout=20_000)
        await expect(page.locator(".ln code").first).to_have_text("to be read")
        await told.get_by_role("link", name="Sign in again").click()
        await expect(page.get_by_label("Vault token")).to_be_visible()
    await stack.kill(job_id)


async def test_a_page_of_another_server_is_no_connection_to_the_api(page: Page) -> None:
    await page.route("**/v1/api/**", lambda route: route.fulfill(body="<h1>Log in</h1>", content_type="text/html"))
    await page.goto("/queues")
    await expect(page.locator("[data-connection]")).to_contain_text("Not connected for")
    await expect(page.locator(".notice")).to_contain_text("What answered is not Stint's API")
    await page.unroute_all()
    await expect(page.locator("[data-connection]")).to_have_text("Live")
    await expect(page.locator(".notice")).to_have_count(0)
