"""Signing in to the page at an OIDC provider, on real servers: the way in, and what others could try."""

import base64
import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest

from stint.core.errors import VaultDeniedError, VaultRefusedError
from stint.vault import Oidc, Vault
from stint_api.errors import NO_VAULT
from stint_api.page.oidc import NOT_BEGUN
from stint_api.session import cookie
from tests.support.api_bench import Bench, api, api_process
from tests.support.oidc import ROLE, Provider
from tests.support.ports import free_port
from tests.support.servers import OpenBao
from tests.support.waiting import until_true

HOST = "api"
BEGIN = "/sign-in/oidc"
SESSION = "__Host-stint"
UNDER_WAY = "__Host-stint-oidc"
WANTED = "/jobs/0123456789abcdef01234567?x=1&y=a%20b#L57-L60"


class Browser:
    """As much of one as the sign-in sees: who asks, and its cookies, also the strict ones."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.cookies: dict[str, str] = {}
        self.set: dict[str, str] = {}

    async def get(self, path: str, *, site: str = "same-origin") -> httpx.Response:
        """A link, on a page of this kind of site."""
        sent = {name: value for name, value in self.cookies.items() if site == "same-origin" or name.endswith("-oidc")}
        return self._keep(await self.http.get(path, headers=self._headers(sent, site)))

    async def post(self, path: str, **form: str) -> httpx.Response:
        headers = self._headers(self.cookies, "same-origin") | {"Origin": f"https://{HOST}"}
        return self._keep(await self.http.post(path, data=form, headers=headers))

    async def begin(self, to: str = "/") -> str:
        """Follow the page's link; returns the provider's address."""
        answer = await self.get(f"{BEGIN}?{urlencode({'to': to})}")
        assert answer.status_code == httpx.codes.SEE_OTHER, said(answer)
        return answer.headers["location"]

    async def come_back(self, url: str) -> httpx.Response:
        """What the provider's answer makes it do."""
        parts = urlsplit(url)
        return await self.get(f"{parts.path}?{parts.query}", site="cross-site")

    def _headers(self, cookies: Mapping[str, str], site: str) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()), "Sec-Fetch-Site": site}

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        self.set = {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}
        for line in self.set.values():
            (name, morsel), *_ = SimpleCookie(line).items()
            self.cookies.pop(name, None)
            if morsel["max-age"] != "0":
                self.cookies[name] = morsel.value
        return answer


def said(answer: httpx.Response) -> str:
    """What the sign-in view says is wrong."""
    assert answer.status_code == httpx.codes.UNAUTHORIZED, answer.text
    assert "<title>Sign in" in answer.text
    found = re.search(r'role="alert">.*?<p>(.*?)</p>', answer.text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


@pytest.fixture
async def bench(people: Provider, nats_url: str, openbao: OpenBao) -> AsyncIterator[Bench]:
    assert people.issuer
    async with api(nats_url, openbao, STINT_OIDC_ROLE=ROLE, STINT_OIDC_LABEL="Sign in at Example & Co") as bench:
        yield bench


@pytest.fixture
async def browser(bench: Bench) -> AsyncIterator[Browser]:
    async with bench.client() as http:
        yield Browser(http)


@asynccontextmanager
async def browser_at(bench: Bench, *, host: str = HOST, **settings: str) -> AsyncIterator[Browser]:
    """One of an API with these settings, which it calls by this name."""
    changed: Any = bench.parts.settings.model_copy(update=settings)
    async with bench.another(settings=changed) as http:
        http.headers.pop("X-Auth-Token")
        http.headers["Host"] = host
        yield Browser(http)


async def session_token(bench: Bench, browser: Browser) -> str:
    session = await bench.parts.sessions.find(browser.cookies[SESSION])
    assert session
    return session.token


async def signed_in(browser: Browser, people: Provider, to: str = "/") -> httpx.Response:
    """Follow the link, and sign in at the provider; returns the last answer."""
    return await browser.come_back(await people.answer(await browser.begin(to)))


async def sign_out(browser: Browser) -> None:
    answer = await browser.post("/session/end", csrf=cookie.proof(browser.cookies[SESSION]))
    assert answer.status_code == httpx.codes.SEE_OTHER
    assert SESSION not in browser.cookies


async def test_from_the_link_to_where_one_wanted_to_go(browser: Browser, people: Provider) -> None:
    page = await browser.get("/jobs?queue=a")
    link = re.search(r'href="(/sign-in/oidc[^"]*)">Sign in at Example &amp; Co<', page.text)
    assert link
    assert parse_qs(urlsplit(html.unescape(link[1])).query) == {"to": ["/jobs?queue=a"]}
    url = await browser.begin(WANTED)
    assert url.startswith(people.issuer)
    assert browser.set[UNDER_WAY].endswith("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600")
    assert parse_qs(urlsplit(url).query)["redirect_uri"] == ["https://api/sign-in/oidc/callback"]
    answer = await browser.come_back(await people.answer(url))
    assert (answer.status_code, answer.headers["refresh"]) == (200, f"0; url={WANTED}")
    assert browser.set[SESSION].endswith("; Path=/; Secure; HttpOnly; SameSite=Strict")
    assert set(browser.cookies) == {SESSION}
    assert (await browser.get("/session")).json()["who"] == people.who
    assert (await browser.get("/v1/api/job")).status_code == httpx.codes.OK


async def test_signing_out_revokes_only_the_sign_ins_token(bench: Bench, browser: Browser, people: Provider) -> None:
    await signed_in(browser, people)
    token = await session_token(bench, browser)
    assert (await bench.vault.lookup_self(token)).display_name == people.who
    await sign_out(browser)
    with pytest.raises(VaultDeniedError):
        await bench.vault.lookup_self(token)
    await browser.post("/session", token=bench.token, to="/")
    await sign_out(browser)
    assert (await bench.vault.lookup_self(bench.token)).ttl


@pytest.mark.parametrize("by", ["token", "oidc"])
async def test_a_new_sign_in_ends_the_last_one(bench: Bench, browser: Browser, people: Provider, by: str) -> None:
    """The provider's answer comes without the first one's cookie: it is a link from another site."""
    await signed_in(browser, people)
    token, first = await session_token(bench, browser), browser.cookies[SESSION]
    assert said(await browser.post("/session", token="nobody", to="/"))
    assert await session_token(bench, browser) == token, "one that is refused changes nothing"
    if by == "token":
        await browser.post("/session", token=bench.token, to="/")
        assert await session_token(bench, browser) == bench.token
    else:
        await signed_in(browser, people)
    assert browser.cookies[SESSION] != first
    with pytest.raises(VaultDeniedError):
        await bench.vault.lookup_self(token)


async def test_a_sign_in_by_token_ends_one_by_oidc_that_is_under_way(
    bench: Bench, browser: Browser, people: Provider
) -> None:
    """Else the answer, which comes without the session's cookie, would begin another, and leave this one open."""
    answer = await people.answer(await browser.begin())
    assert said(await browser.post("/session", token="nobody", to="/"))
    assert set(browser.cookies) == {UNDER_WAY}, "one that is refused changes nothing"
    await browser.post("/session", token=bench.token, to="/")
    assert set(browser.cookies) == {SESSION}
    assert said(await browser.come_back(answer)) == NOT_BEGUN
    assert await session_token(bench, browser) == bench.token


@pytest.mark.parametrize("to", ["//elsewhere.invalid", "/a\r\nRefresh: 9", "/" + "a" * 3000])
async def test_it_leads_to_this_page_only(browser: Browser, people: Provider, to: str) -> None:
    answer = await signed_in(browser, people, to)
    assert answer.headers["refresh"] == "0; url=/"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_only_a_page_of_ours_begins_it(browser: Browser, site: str) -> None:
    answer = await browser.get(f"{BEGIN}?to=/queues", site=site)
    assert said(answer) == ""
    assert 'name="to" value="/queues"' in answer.text
    assert not browser.cookies


async def test_nobody_is_signed_in_as_somebody_else(bench: Bench, browser: Browser, people: Provider) -> None:
    """An attacker's answer, in the browser of a victim: of one who has not begun, and of one who has."""
    async with bench.client() as http:
        answer = await people.answer(await Browser(http).begin())
    assert said(await browser.come_back(answer)) == NOT_BEGUN
    mine = await browser.begin()
    assert said(await browser.come_back(answer)) == NOT_BEGUN
    assert SESSION not in browser.cookies
    assert (await browser.come_back(await people.answer(mine))).headers["refresh"], "her own goes on"


async def test_an_answer_serves_once(browser: Browser, people: Provider) -> None:
    """Vault says the same of one that comes after Vault has forgotten the sign-in."""
    answer = await people.answer(await browser.begin("/queues"))
    kept = browser.cookies[UNDER_WAY]
    await browser.come_back(answer)
    first = browser.cookies[SESSION]
    assert said(await browser.come_back(answer)) == NOT_BEGUN
    browser.cookies[UNDER_WAY] = kept
    refused = await browser.come_back(answer)
    told = said(refused)
    assert told.startswith("Vault did not accept the provider's answer: ")
    assert told.endswith("Expired or missing OAuth state. Sign in again.")
    assert 'href="/sign-in/oidc?to=/queues"' in refused.text
    assert browser.cookies == {SESSION: first}


async def test_a_stolen_answer_is_worth_nothing_to_vault(openbao: OpenBao, people: Provider) -> None:
    oidc = Oidc(Vault(openbao.address), mount="oidc", role=ROLE)
    begun = await oidc.begin("http://localhost:8250/oidc/callback")
    given = dict(parse_qsl(urlsplit(await people.answer(begun.url)).query))
    with pytest.raises(VaultRefusedError, match="client_nonce"):
        await oidc.finish(begun.state, "", given["code"])


async def test_the_providers_refusal_is_said_in_its_words(browser: Browser) -> None:
    state = parse_qs(urlsplit(await browser.begin("/queues#L1")).query)["state"][0]
    refusal = {"error": "access_denied", "error_description": "Not <b>assigned</b>." + "x" * 900}
    foreign = await browser.get(f"{BEGIN}/callback?{urlencode(refusal)}&state=st_other", site="cross-site")
    assert said(foreign) == NOT_BEGUN
    answer = await browser.get(f"{BEGIN}/callback?{urlencode(refusal | {'state': state})}", site="cross-site")
    told = said(answer)
    assert told.startswith("The provider did not sign you in: access_denied: Not <b>assigned</b>.xxx")
    assert len(told) < 300
    assert "<b>" not in answer.text
    assert 'name="to" value="/queues#L1"' in answer.text
    assert not browser.cookies


@pytest.mark.parametrize("code", ["", "&code=", "&code=wrong%0d%0a"])
async def test_a_code_that_the_provider_does_not_know_signs_nobody_in(browser: Browser, code: str) -> None:
    state = parse_qs(urlsplit(await browser.begin()).query)["state"][0]
    told = said(await browser.get(f"{BEGIN}/callback?state={state}{code}", site="cross-site"))
    assert told.startswith("Vault did not accept the provider's answer: ")
    assert not browser.cookies


ALL_SESSIONS = base64.urlsafe_b64encode(b'{"state":"x","nonce":"x","to":"/","before":"*"}').decode()


@pytest.mark.parametrize("sent", ["x", "e30", "bnVsbA", "====", "a" * 5000, ALL_SESSIONS])
async def test_a_cookie_that_is_none_of_ours_begins_nothing(browser: Browser, sent: str) -> None:
    browser.cookies[UNDER_WAY] = sent
    assert said(await browser.get(f"{BEGIN}/callback?state=x&code=y", site="cross-site")) == NOT_BEGUN


async def test_vault_that_is_away_is_said_to_be(bench: Bench, browser: Browser, people: Provider) -> None:
    answer = await people.answer(await browser.begin("/queues"))
    away = Vault(f"http://127.0.0.1:{free_port()}")
    async with bench.another(oidc_vault=away) as http:
        browser.http, _ = http, http.headers.pop("X-Auth-Token")
        assert said(await browser.come_back(answer)) == NO_VAULT
        assert said(await browser.get(f"{BEGIN}?to=/queues")) == NO_VAULT
        assert (await http.get("/v1/api/job", headers={"X-Auth-Token": bench.token})).is_success
    assert not browser.cookies


@pytest.mark.parametrize(
    ("settings", "host", "reason"),
    [
        ({"oidc_role": "nobody"}, "api", 'role "nobody" could not be found.'),
        ({"oidc_mount": "elsewhere"}, "api", "permission denied."),
        ({"oidc_mount": "a/../b"}, "api", "The Vault path is malformed."),
        ({}, "other", "Vault's auth/oidc does not let people redirect to https://other/sign-in/oidc/callback."),
    ],
)
async def test_what_vault_lacks_is_named(bench: Bench, settings: dict[str, str], host: str, reason: str) -> None:
    async with browser_at(bench, host=host, **settings) as browser:
        told = said(await browser.get(BEGIN))
    assert told == (
        f"Vault's sign-in by OIDC is not set up for this address, https://{host}/sign-in/oidc/callback: {reason}"
    )


async def test_a_token_with_few_uses_is_refused_and_not_left_behind(bench: Bench, people: Provider) -> None:
    role = await bench.admin(lambda client: client.adapter.get(f"/v1/auth/oidc/role/{ROLE}"))
    limited = {name: role["data"][name] for name in ("role_type", "user_claim", "allowed_redirect_uris")}
    limited |= {"token_num_uses": 5}
    await bench.admin(lambda client: client.adapter.post("/v1/auth/oidc/role/limited", json=limited))
    before = await accessors(bench)
    async with browser_at(bench, oidc_role="limited") as browser:
        told = said(await signed_in(browser, people))
    assert told.startswith("This token may be used 4 times only")
    assert not browser.cookies
    assert await accessors(bench) <= before, "those of others may have ended meanwhile"


async def accessors(bench: Bench) -> set[str]:
    found = await bench.admin(lambda client: client.auth.token.list_accessors())
    return set(found["data"]["keys"])


async def test_without_the_setting_there_is_no_such_sign_in(bench: Bench) -> None:
    async with browser_at(bench, oidc_role="") as browser:
        assert BEGIN not in (await browser.get("/")).text
        for path in (BEGIN, f"{BEGIN}/callback?state=a&code=b"):
            assert (await browser.get(path)).status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize(
    ("base", "host", "scheme"),
    [
        ("http://api", "stint.example", "https"),
        ("http://api", "127.0.0.1:3232", "http"),
        ("http://api", "[::1]:3232", "http"),
        ("http://api", "localhost", "http"),
        ("https://api", "localhost:3232", "https"),
        ("http://api", "[", "https"),
    ],
)
async def test_the_provider_gets_the_browsers_address(bench: Bench, base: str, host: str, scheme: str) -> None:
    async with browser_at(bench, host=host, oidc_role="nobody") as browser:
        browser.http.base_url = httpx.URL(base)
        assert f" {scheme}://{host}/sign-in/oidc/callback: " in said(await browser.get(BEGIN))


async def test_no_log_has_the_code_the_state_or_the_token(
    tmp_path: Path, nats_url: str, openbao: OpenBao, people: Provider
) -> None:
    async with api_process(tmp_path, nats_url, openbao, STINT_OIDC_ROLE=ROLE) as (server, http):
        http.headers.pop("X-Auth-Token")
        http.headers["Host"] = HOST
        browser, secret = Browser(http), set[str]()
        for answers in ("", "&code=unknown", "&error=access_denied"):
            answer = await people.answer(await browser.begin())
            secret |= {*browser.cookies.values(), *dict(parse_qsl(urlsplit(answer).query)).values()}
            if answers:
                assert said(await browser.come_back(f"{answer}{answers}"))
                continue
            assert (await browser.come_back(answer)).headers["refresh"] == "0; url=/"
            (text,) = browser.cookies.values()
            session = await browser.get("/session")
            assert session.json()["who"] == people.who
            secret |= {text}
            assert (await browser.post("/session/end", csrf=cookie.proof(text))).status_code == httpx.codes.SEE_OTHER
        # A line is written when the answer is through, which may be after the client has it.
        await until_true(lambda: server.log.count('/sign-in/oidc/callback"') >= 3)
    log = server.log
    assert log.count('/sign-in/oidc/callback"') == 3, log
    assert [text for text in secret if text in log] == []
    assert not re.search(r"\bs\.\w{20}", log), "a token of OpenBao"
