"""The page's pure scripts, run in the browser without the API: lines, escapes, layout, words, streams."""

import base64
import gzip
import io
import re
import sys
import tarfile
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route

from stint.core.names.ids import queue_name
from stint_api.page.documents import assets
from stint_api.page.drawn import words
from stint_api.routes.models.base import REASONS
from stint_runner.inputs.tarball import Tarball

SITE = "http://page.invalid/"
CALL = "async ([module, name, values]) => (await import(`./${module}`))[name](...values)"
FEED = """async (pieces) => {
  const { Lines, copied } = await import('./lines.js');
  const lines = new Lines();
  for (const [stream, text, told] of pieces)
    lines.add(stream, Uint8Array.from(atob(text), (char) => char.charCodeAt(0)), told);
  lines.finish();
  return { numbers: lines.list.map(({ n, stream }) => [n, stream]), text: copied(lines.list), dropped: lines.dropped,
    styles: lines.list.map(({ style }) => style.fg ?? null), first: lines.first };
}"""


@pytest.fixture(scope="module")
async def scripts(browser: Browser) -> AsyncIterator[Page]:
    async def serve(route: Route) -> None:
        name = route.request.url.removeprefix(SITE)
        found = assets().named.get(name)
        body, kind = (found.plain, found.media_type) if found else (b"<!doctype html>", "text/html")
        await route.fulfill(body=body, content_type=kind)

    page = await browser.new_page()
    await page.route(f"{SITE}**", serve)
    await page.goto(SITE)
    yield page
    await page.close()


async def call(page: Page, module: str, name: str, *values: Any) -> Any:
    return await page.evaluate(CALL, [module, name, values])


async def feed(page: Page, *pieces: tuple[str, bytes] | tuple[str, bytes, dict[str, Any]]) -> Any:
    told = [[stream, base64.b64encode(data).decode(), *rest] for stream, data, *rest in pieces]
    return await page.evaluate(FEED, told)


OUTPUT = "one\ntwö €\n\nfour 😀\x1b[31m\nfive\x1b[0m\nlast".encode()


async def test_lines_are_the_same_wherever_they_are_cut(scripts: Page) -> None:
    whole = await feed(scripts, ("stdout", OUTPUT))
    assert whole["text"] == "one\ntwö €\n\nfour 😀\nfive\nlast"
    assert whole["numbers"] == [[n, "stdout"] for n in range(1, 7)]
    assert whole["styles"] == [None, None, None, None, 1, None], "a colour goes on in the next line"
    for cut in range(1, len(OUTPUT)):
        assert await feed(scripts, ("stdout", OUTPUT[:cut]), ("stdout", OUTPUT[cut:])) == whole


async def test_a_line_is_numbered_when_it_begins_and_each_stream_has_its_own(scripts: Page) -> None:
    found = await feed(
        scripts, ("stdout", b"a \xe2\x82"), ("stderr", b"b\nc"), ("stdout", b"\xac\nd"), ("stderr", b"!\n")
    )
    assert found["numbers"] == [[1, "stdout"], [2, "stderr"], [3, "stderr"], [4, "stdout"]]
    assert found["text"] == "a €\nb\nc!\nd"


async def test_what_begins_in_the_middle_shows_the_lines_that_begin_there(scripts: Page) -> None:
    told = {"line": 41, "continues": True, "offset": 900}
    found = await feed(
        scripts, ("stdout", b"rest of 40\n41\n42\n", told), ("stderr", b"old\n43\n", told | {"line": 43})
    )
    assert found["first"] == 41
    assert found["numbers"] == [[41, "stdout"], [42, "stdout"], [43, "stderr"]]
    assert found["text"] == "41\n42\n43"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\xc0\x80\xed\xa0\x80\xf5", r"\xff\xc0\x80\xed\xa0\x80\xf5"),
        (b"a\xe2\x82", r"a\xe2\x82"),
        (b"\xef\xbb\xbfbom", "\ufeffbom"),
        (b"10%\r20%\r30%\x1b[K", "30%"),
        (b"abc\x08\x08X\x1b[1GY", "YXc"),
        (b"a\tb", "a       b"),
        (b"\x1b]0;title\x07a\x1bPq\x1b\\b\x1b(Bc\x1bcd\x07", "abcd"),
        (b"\x1b[2J\x1b[10Aup", "up"),
    ],
)
async def test_bytes_as_one_reads_them(scripts: Page, data: bytes, text: str) -> None:
    assert (await feed(scripts, ("stdout", data + b"\n")))["text"] == text


@pytest.mark.parametrize(
    ("text", "styles"),
    [
        ("\x1b[1;31mx", [{"bold": True, "fg": 1}]),
        ("\x1b[38;5;196mx", [{"fg": [255, 0, 0]}]),
        ("\x1b[48:2::1:2:300mx", [{"bg": [1, 2, 255]}]),
        ("\x1b[7ma\x1b[27mb", [{"inverse": True}, {}]),
        ("\x1b[97;40ma\x1b[39;49mb", [{"fg": 15, "bg": 0}, {}]),
        ("\x1b[38;5mx", [{"fg": 0}]),
        ("\x1b[8mhidden", [{}]),
        ("\x1b[?25l\x1b[>4mx", [{}]),
    ],
)
async def test_colours_and_nothing_else(scripts: Page, text: str, styles: list[Any]) -> None:
    assert [run["style"] for run in await call(scripts, "ansi.js", "runs", text)] == styles


@pytest.mark.parametrize("ground", [[255, 255, 255], [11, 14, 18], [0, 95, 0], [128, 128, 128], [255, 255, 0]])
async def test_no_colour_can_hide_text(scripts: Page, ground: list[int]) -> None:
    for front in (ground, [0, 0, 0], [255, 255, 255], [127, 127, 127]):
        seen = await call(scripts, "paint.js", "readable", front, ground)
        assert await call(scripts, "paint.js", "contrast", seen, ground) >= 4.5


async def test_events_are_heard_however_they_are_cut(scripts: Page) -> None:
    text = 'event: fact\nid: 1-0-0\ndata: {"a":1}\n\n: ping\n\nevent: end\ndata: {}\n\nevent: half\ndata: {'
    heard = """async (pieces) => {
      const { parser } = await import('./stream.js'), found = [], feed = parser((...event) => found.push(event));
      for (const piece of pieces) feed(piece);
      return found;
    }"""
    wanted = [["fact", "1-0-0", '{"a":1}'], ["end", None, "{}"]]
    for cut in range(len(text)):
        assert await scripts.evaluate(heard, [text[:cut], text[cut:]]) == wanted


LET_GO = """async () => {
  const { Lines } = await import('./lines.js'), { Find } = await import('./find.js');
  const lines = new Lines(10), write = (n) => lines.add('stdout', new TextEncoder().encode(`line ${n}\\n`), {});
  const find = new Find({ lines, settings: {}, refresh() {}, reveal() {} }, () => {});
  const searched = () => new Promise((done) => (function look() { find.whole ? done() : setTimeout(look); })());
  for (let n = 1; n <= 10_010; n++) write(n);
  find.start('line');
  await searched();
  const before = [find.hits[0].n, find.hits.length];
  for (let n = 10_011; n <= 10_015; n++) { write(n); find.more(); }
  await searched();
  return [before, [find.hits[0].n, find.hits.length], lines.list.map((line) => line.n)];
}"""


async def test_a_search_goes_on_where_the_first_lines_are_let_go(scripts: Page) -> None:
    before, after, kept = await scripts.evaluate(LET_GO)
    assert before == [1, 10_010]
    assert kept == list(range(10_001, 10_016))
    assert after == [kept[0], len(kept)]


LONG_LINES = """async (pieces) => {
  const { Lines } = await import('./lines.js'), lines = new Lines(1000, 100_000), kept = [];
  for (const size of pieces) {
    lines.add('stdout', new TextEncoder().encode(`${'x'.repeat(size - 1)}\\n`), { line: 41 });
    kept.push(lines.list.length);
  }
  return { kept, first: lines.first, characters: lines.characters };
}"""


async def test_of_few_lines_that_are_long_only_the_first_are_let_go(scripts: Page) -> None:
    many = await scripts.evaluate(LONG_LINES, [1001] * 200)
    assert min(many["kept"][50:]) > 50, "there were never fewer than half of those that may be there"
    assert many["first"] + many["kept"][-1] == 241
    assert many["characters"] <= 100_000
    few = await scripts.evaluate(LONG_LINES, [200_000, 10])
    assert few["kept"] == [1, 2]
    assert few["first"] == 41, "none was let go"


BAR = """async ([pieces, text]) => {
  const { PLAIN, latest, runs } = await import('./ansi.js'), line = { text: '', style: PLAIN };
  for (const piece of pieces) { line.text += piece; latest(line, 5); }
  return [latest(line, 5), latest(line, 1000).parts, runs(text)];
}"""


@pytest.mark.parametrize(
    "text",
    [
        "\r10 % \x1b[31mred\x1b[0m\r20 %\r\r",
        "wait |\b/\b\x1b[1m-\b\x1b[0m\\",
        "\x1b[2K\x1b[1Gone of two\x1b[2K\x1b[1Gtwo",
        "a\r\r\bb\tc\x1b[3Gd",
    ],
)
async def test_a_line_that_is_written_over_is_the_same_however_it_grows(scripts: Page, text: str) -> None:
    for pieces in ([text], list(text), [text[:7], text[7:]]):
        short, whole, expected = await scripts.evaluate(BAR, [pieces, text])
        assert whole == expected
        length = sum(len(run["text"]) for run in expected)
        assert sum(len(run["text"]) for run in short["parts"]) + short["more"] == length


WIDE_BAR = """async (pieces) => {
  const { PLAIN, latest } = await import('./ansi.js'), line = { text: '', style: PLAIN }, { exec } = RegExp.prototype;
  let steps = 0;
  RegExp.prototype.exec = function (text) { steps++; return exec.call(this, text); };
  const seen = (most) => {
    const { parts, more } = latest(line, most);
    return [parts.map((run) => run.text).join(''), more];
  };
  try {
    for (const [begin, much] of pieces) { line.text += begin + 'x'.repeat(much); latest(line, 50); }
    return { steps, kept: line.settled.screen.cells.length, short: seen(50), long: seen(20_000) };
  } finally { RegExp.prototype.exec = exec; }
}"""


@pytest.mark.parametrize(
    ("pieces", "total"),
    [
        ([["\r", 1_000_000], ["", 4], ["", 4]], 1_000_008),
        ([["", 1_000_000], ["\r", 4], ["\x1b[1m", 4]], 1_000_000),
    ],
)
async def test_of_megabytes_that_are_written_over_few_are_gone_through(
    scripts: Page, pieces: list[Any], total: int
) -> None:
    found = await scripts.evaluate(WIDE_BAR, pieces)
    assert found["steps"] < 200_000
    assert found["kept"] <= 10_000
    assert found["short"] == ["x" * 50, total - 50]
    assert found["long"] == ["x" * 20_000, total - 20_000]


async def test_a_wide_bar_shows_what_it_wrote_last(scripts: Page) -> None:
    pieces = [["begin", 20_000], ["\r10 %", 30_000], ["\r20 %", 0], ["\x1b[9000C\b\b!\r30", 0]]
    found = await scripts.evaluate(WIDE_BAR, pieces)
    assert found["short"] == ["30 %" + "x" * 46, 30_004 - 50]
    assert found["long"] == ["30 %" + "x" * 8_998 + "!" + "x" * 10_997, 10_004]


ENDS = """async (texts) => {
  const { plain, rewrites } = await import('./ansi.js'), begun = performance.now();
  return [texts.map(([before, times, behind]) => {
    const text = before + '\\r'.repeat(times) + behind;
    return [rewrites(text), plain(text)];
  }), performance.now() - begun];
}"""


async def test_line_ends_by_the_hundred_thousand_take_no_time(scripts: Page) -> None:
    found, took = await scripts.evaluate(ENDS, [["ab", 1, ""], ["ab", 300_000, ""], ["ab", 300_000, "c"]])
    assert found == [[False, "ab"], [False, "ab"], [True, "cb"]]
    assert took < 3_000, "milliseconds, of which a try at each of them took more than ten thousand"


HIT = """async ([begin, before, only]) => {
  const { Log } = await import('./log.js'), { Lines } = await import('./lines.js');
  const { Find } = await import('./find.js');
  const frames = async (n) => { while (n--) await new Promise(requestAnimationFrame); };
  document.body.innerHTML = `<div style="height:400px; width:800px; overflow:auto; font:12px/18px monospace"></div>
    <template id="t-line"><div class="ln" style="white-space:pre"><i></i><time></time><s></s><code></code>
    <p><svg><use/></svg><b></b></p></div></template>`;
  const scroller = document.querySelector('div'), lines = new Lines(), log = new Log(scroller, lines);
  const add = (stream, text) => lines.add(stream, new TextEncoder().encode(text), {}), find = new Find(log, () => {});
  add('stdout', `${begin}${'a'.repeat(before)}needle${'b'.repeat(4000)}\\nshort\\n`);
  for (let n = 0; n < 50; n++) add('stderr', `line ${n}\\n`);
  log.update();
  log.only(only);
  find.start('needle');
  find.go(1);
  await frames(4);
  const [place, pane] = [document.querySelector('mark.now'), scroller].map((found) => found?.getBoundingClientRect());
  const seen = Boolean(place) && place.left >= pane.left && place.right <= pane.right + 1; // a part of a pixel
  const drawn = Math.max(...[...document.querySelectorAll('code')].map((code) => code.textContent.length));
  const found = { hits: find.hits.length, seen, drawn, lines: document.querySelectorAll('.ln').length };
  document.body.replaceChildren();
  return found;
}"""


@pytest.mark.parametrize(
    ("begin", "before", "seen"),
    [
        ("", 1_990, True),
        ("", 3_000, True),
        ("", 100_000, True),
        ("\x1b[31m", 3_000, True),
        ("\x1b[31m\t", 15_000, True),
        ("\r", 15_000, True),
        ("", 400_000, False),
        ("\x1b[31m", 100_000, False),
        ("\r", 100_000, False),
    ],
)
async def test_a_hit_in_a_long_line_is_shown_if_it_is_drawn_soon(
    scripts: Page, begin: str, before: int, seen: bool
) -> None:
    found = await scripts.evaluate(HIT, [begin, before, ""])
    assert found["hits"] == 1
    assert found["seen"] is seen
    assert found["drawn"] < (203_000 if not begin else 23_000)


async def test_a_hit_in_a_line_that_is_not_shown_leaves_the_others_where_they_are(scripts: Page) -> None:
    found = await scripts.evaluate(HIT, ["", 5_000, "stderr"])
    assert found["hits"] == 1
    assert not found["seen"]
    assert found["lines"] > 20


CLOCKS = """async (answers) => {
  const { call, serverTime } = await import('./api.js'), { fetch, Date: { now } } = globalThis, found = [];
  for (const [asked, answered, told] of answers) {
    const times = [asked, answered], body = JSON.stringify({ now: new Date(told).toISOString() });
    globalThis.Date.now = () => times.shift();
    globalThis.fetch = async () => new Response(body);
    try { await call('/'); } finally { Object.assign(globalThis, { fetch }); globalThis.Date.now = now; }
    found.push(serverTime(0));
  }
  return found;
}"""
HOUR = 3_600_000


async def test_a_slow_answer_does_not_make_a_clock_wrong(scripts: Page) -> None:
    """The server may have told its time at any moment between the question and the answer."""
    slow = [[0, 10_000, 1_000], [0, 10_000, 9_000]]
    ahead = [[0, 1_000, HOUR + 500], [0, 10_000, HOUR + 1_000], [0, 10_000, HOUR + 9_000]]
    right = [[0, 1_000, 0]]
    assert await scripts.evaluate(CLOCKS, slow + ahead + right) == [0, 0, HOUR, HOUR, HOUR, 0]


async def test_rows_are_where_they_are_however_many_come(scripts: Page) -> None:
    """The sums over blocks, against plain addition."""
    wrong = await scripts.evaluate(
        """async () => {
          const { Layout } = await import('./layout.js'), layout = new Layout(), heights = [];
          const tops = () => heights.reduce((all, height) => [...all, all.at(-1) + height], [0]);
          for (let i = 0; i < 700; i++) {
            heights.push(1 + ((i * 7) % 4));
            layout.push(heights[i]);
            if (i % 97 === 0) { heights[i >> 1] += 3; layout.set(i >> 1, heights[i >> 1]); }
            if (i % 50) continue;
            const all = tops();
            for (let j = 0; j <= i; j++)
              if (layout.top(j) !== all[j] || layout.at(all[j]) !== j || layout.at(all[j + 1] - 1) !== j) return [i, j];
            if (layout.rows !== all.at(-1)) return ['rows', i];
          }
          return null;
        }"""
    )
    assert wrong is None


async def test_files_are_packed_so_that_a_strict_reader_finds_them(scripts: Page) -> None:
    """Names of any length and script, data of any size, and files that can be executed."""
    files = {"a": "", "b/c/" + "d" * 120: "x" * 512, "ünï/€.sh": "#!/bin/sh\n", "e": "\x7fELF", "b/f": "y" * 700}
    packed = await scripts.evaluate(
        """async (files) => {
          const { pack } = await import('./tar.js');
          const made = Object.entries(files).map(([path, text]) => ({ path, file: new File([text], 'x') }));
          const bytes = new Uint8Array(await (await pack(made)).arrayBuffer());
          return btoa(String.fromCharCode(...bytes));
        }""",
        files,
    )
    tar = gzip.decompress(base64.b64decode(packed))
    strict = Tarball(io.BytesIO(tar).read)
    names = [entry.name.removeprefix("./").rstrip("/") for entry in strict.entries()]
    assert sorted(names) == sorted([*files, "b", "b/c", "ünï"])
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = {member.name.removeprefix("./"): member for member in archive if member.isfile()}
        assert {name: archive.extractfile(member).read().decode() for name, member in members.items()} == files  # type: ignore[union-attr] # they are files
    assert {name for name, member in members.items() if member.mode == 0o755} == {"ünï/€.sh", "e"}
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}


@pytest.mark.parametrize("name", ["deploys", "a.b-c_d", "", "one/queue", ".", "..", "=x", "ünï", " "])
async def test_a_queues_name_in_an_address_is_what_the_api_takes(scripts: Page, name: str) -> None:
    part = await call(scripts, "queue-name.js", "part", name)
    assert part == name or (part.startswith("=") and queue_name(part[1:]) == name)
    assert re.fullmatch(r"=?[\w.-]+", part)
    assert part not in {".", ".."}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sh -c 'echo $A | wc'", ["sh", "-c", "echo $A | wc"]),
        ('a "b c" d\\ e ""', ["a", "b c", "d e", ""]),
        ("it's", None),
        ("  ", []),
    ],
)
async def test_words_are_split_as_a_shell_does(scripts: Page, line: str, words: list[str] | None) -> None:
    assert await call(scripts, "shell-words.js", "split", line) == words


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("duration", 0, "0 s"),
        ("duration", 9_940, "9.9 s"),
        ("duration", 59_600, "59 s"),
        ("duration", 139_000, "2 min 19 s"),
        ("duration", 11_100_000, "3 h 5 min"),
        ("duration", 400_000_000, "4 d"),
        ("ago", 1_000, "just now"),
        ("ago", 300_000, "5 min ago"),
        ("bytes", 1, "1 byte"),
        ("bytes", 6_100, "6.1 KB"),
        ("bytes", 64_000_000, "64 MB"),
    ],
)
async def test_figures_in_words(scripts: Page, name: str, value: int, text: str) -> None:
    assert await call(scripts, "words.js", name, value) == text


KNOWN = {
    "status": "queued", "held": False, "position": 0, "waits_for": "", "output_bytes": 0, "reason": "", "error": "",
    "container_id": "", "phase": "", "progress": None, "node_uuid": "k3", "return_code": 2,
    "output_complete": True, "output_truncated": False, "output_masked": 0,
    "kill_requested_at": "0001-01-01T00:00:00Z", "kill_grace": 0, "back_since": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Waits for its turn"),
        ({"position": 3, "waits_for": "turn"}, "3rd in line"),
        ({"position": 11, "waits_for": "paused"}, "11th in line; its queue is paused"),
        ({"position": 1, "waits_for": "unserved"}, "1st in line; no runner serves this queue"),
        ({"status": "running", "container_id": ""}, "It is being prepared"),
        ({"status": "running", "phase": "pulling", "progress": 0.43}, "Pulling the image, 43 %"),
        ({"status": "stopping"}, "A kill was requested; it has not ended yet"),
        ({"status": "success", "output_complete": True, "output_bytes": 18_000}, "Wrote 18 KB"),
        ({"status": "success", "output_complete": False}, "Wrote nothing; not all of it is there"),
        ({"status": "failed", "reason": "exit_code", "return_code": 2}, "Exit code 2"),
        ({"status": "failed", "reason": "image", "error": "No such image."}, "No such image."),
        ({"status": "unknown", "reason": "lost", "node_uuid": "k3"}, "k3 was lost; nobody can say how it ended"),
    ],
)
async def test_one_sentence_about_a_job(scripts: Page, fields: dict[str, Any], said: str) -> None:
    assert await call(scripts, "words.js", "sentence", KNOWN | fields) == said


ASKED = {"status": "stopping", "kill_requested_at": "2026-01-01T00:00:00.5Z", "kill_grace": 10}
MORE: list[dict[str, Any]] = [
    *({"position": place, "waits_for": "turn"} for place in (1, 2, 3, 4, 11, 12, 13, 21, 101, 111, 1002)),
    *({"position": 2, "waits_for": why} for why in ("", "held", "paused", "unserved", "capacity")),
    *({"status": "running", "phase": phase} for phase in ("", "opening", "pulling", "creating", "running", "new")),
    *({"status": "running", "phase": "pulling", "progress": part} for part in (0, 0.001, 0.29, 0.999, 1)),
    *({"status": "running", "held": held, "container_id": "c"} for held in (True, False)),
    *({"status": "failed", "reason": why, "error": said} for why in REASONS for said in ("", "It said <b>so</b>.")),
    *({"status": "unknown", "reason": "lost", "node_uuid": name} for name in ("", "k3")),
    *(
        {"status": "success", "output_bytes": size}
        for size in (0, 1, 999, 1000, 9_949, 9_950, 999_499, 999_500, 10**12)
    ),
    {"status": "success", "output_complete": False, "output_truncated": True, "output_masked": 1},
    {"status": "success", "held": True, "output_masked": 1_234},
    {"status": "running", "held": True, "back_since": "2026-01-01T00:00:00Z"},
    {"status": "stopping"},
    ASKED,
    ASKED | {"kill_grace": 0},
]
NOWS = [0, 1_767_225_600_500, 1_767_225_609_400, 1_767_225_610_500, 1_767_225_700_000]
JOINERS = {"\u200c", "\u200d"}
"""Characters that cannot be seen, and are needed."""
FILLERS = {*"\u034f\u115f\u1160\u17b4\u17b5\u2065\u3164\uffa0"}
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
LENGTHS = [
    -1, 0, 0.04, 0.05, 0.25, 0.35, 1.04, 1.5, 2, 9.94, 9.95, 59.4, 59.6, 60, 139, 3599.6, 3600, 11_100, 172_799, 4e5,
]  # fmt: skip


async def test_the_server_says_what_the_scripts_say(scripts: Page) -> None:
    """Else a row would change its words when a script takes it over."""
    for job in [KNOWN, *(KNOWN | more for more in MORE)]:
        assert words.kind(job) == await call(scripts, "words.js", "kind", job)
        for now in NOWS:
            assert words.sentence(job, now / 1000) == await call(scripts, "words.js", "sentence", job, now), job
    for seconds in LENGTHS:
        for name in ("duration", "ago"):
            assert getattr(words, name)(seconds) == await call(scripts, "words.js", name, seconds * 1000), seconds
    for name, word in words.WORDS.items():
        assert word == await call(scripts, "words.js", "word", name)
    every = [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]
    named = words.named("".join(every))
    assert named == await call(scripts, "words.js", "named", "".join(every))
    turning = {char for char in every if unicodedata.bidirectional(char) in TURNING} | {"\u061c", "\u200e", "\u200f"}
    assert not turning & {*named}
    invisible = FILLERS | {
        one for one in every if (unicodedata.category(one), unicodedata.bidirectional(one)) == ("Cf", "BN")
    }
    assert invisible & {*named} == JOINERS
    assert {one for one in invisible if not (await call(scripts, "ansi.js", "runs", one))[0]["chip"]} == JOINERS
