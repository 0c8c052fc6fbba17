"""The session's cookie, and what the page consists of."""

import gzip
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from stint_api.page.documents import SAFETY, assets, document, file
from stint_api.page.signing_in import own
from stint_api.session import cookie
from stint_api.web.streaming import takes_gzip

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "services" / "api" / "stint_api" / "page"
TEXT = "a" * 43
HTML_OF_TEXT = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(")
SIGN_IN = {"vault": "<b>", "to": '"><script>', "error": "<i>", "safe": True, "oidc": "<u>", "theme": ""}
OURS = {"host": "localhost:3232", "origin": "http://localhost:3232", "sec-fetch-site": "same-origin"}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("stint.example.net", "__Host-stint"),
        ("127.0.0.1:3232", "__Host-stint-3232"),
        ("[::1]:3232", "__Host-stint-3232"),
        ("[::1]", "__Host-stint"),
    ],
)
def test_a_cookies_name_has_the_port(host: str, name: str) -> None:
    assert cookie.name({"host": host}) == name
    assert cookie.header({"host": host}, TEXT) == f"{name}={TEXT}; Path=/; Secure; HttpOnly; SameSite=Strict"
    assert cookie.value({"host": host, "cookie": f"a=b; {name}={TEXT}"}) == TEXT


@pytest.mark.parametrize(
    "sent", ["", "a=b", f"__Host-stint-3232={TEXT}x", "__Host-stint-3232=", "\0;=;,\xff", "x" * 9000]
)
def test_what_is_no_cookie_of_ours_is_none(sent: str) -> None:
    assert cookie.value({"host": "localhost:3232", "cookie": sent}) == ""


@pytest.mark.parametrize("other", ['a={"b":1}', "a[b]=c", "a", "a=\xe9", "a=b c", "expires=1"])
def test_no_cookie_of_another_service_hides_ours(other: str) -> None:
    assert cookie.value({"host": "localhost:3232", "cookie": f"{other}; __Host-stint-3232={TEXT}; {other}"}) == TEXT


@pytest.mark.parametrize(
    ("changed", "ours"),
    [
        ({}, True),
        ({"origin": "https://localhost:3232"}, True),  # a proxy that ends TLS
        ({"origin": "http://localhost:3233"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://["}, False),
        ({"host": "", "origin": ""}, False),
    ],
)
def test_an_origin_is_ours_by_host_and_port(changed: dict[str, str], ours: bool) -> None:
    assert cookie.names_us(OURS | changed) is ours


def test_a_proof_is_of_one_session() -> None:
    assert cookie.is_proof(TEXT, cookie.proof(TEXT))
    assert not cookie.is_proof(TEXT, cookie.proof("b" * 43))
    assert not cookie.is_proof(TEXT, "")
    assert TEXT not in cookie.proof(TEXT) + cookie.key(TEXT)


ELSEWHERE = ["//elsewhere.invalid/", "https://elsewhere.invalid/", "/\\elsewhere.invalid", "/a\r\nSet-Cookie: x", ""]


@pytest.mark.parametrize("given", ["/jobs?queue=a%20b", *ELSEWHERE])
def test_signing_in_leads_to_this_page_only(given: str) -> None:
    assert own(given) == ("/" if given in ELSEWHERE else given)


def test_files_are_the_same_in_any_locale() -> None:
    code = "from stint_api.page.documents import assets; print(assets().digest)"
    env = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as one of Latin-1, which is rarely there
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == assets().digest, found.stderr


def test_every_file_has_the_digest_in_its_address_and_is_compressed() -> None:
    found = assets()
    assert {path.name for path in (PAGE / "assets").iterdir()} == set(found.named)
    for name, asset in found.named.items():
        assert gzip.decompress(asset.zipped) == asset.plain
        assert found.path(name) == f"/assets/{found.digest}/{name}"


TAKEN = ["gzip, deflate, br", "br;q=1.0,GZIP;q=0.5", "gzip;q=0.001"]


@pytest.mark.parametrize("encodings", [*TAKEN, "gzip;q=0", "br, gzip; q=0.000", "x-gzipped", ""])
def test_what_a_client_does_not_take_is_not_compressed(encodings: str) -> None:
    style, taken = next(iter(assets().named.values())), encodings in TAKEN
    assert ("content-encoding" in file(style, encodings).headers) is taken
    assert takes_gzip(encodings) is taken


def test_what_a_script_imports_is_loaded_with_it() -> None:
    modules = assets().modules("job.js")
    assert modules[0] == "job.js"
    assert {"ansi.js", "log.js", "stream.js", "words.js"} <= set(modules)
    assert len(modules) == len(set(modules))


def test_a_page_brings_the_icon_of_its_tab() -> None:
    text = bytes(document("sign-in", SIGN_IN).body).decode()
    icon = re.search(r'<link rel="icon" href="data:image/svg\+xml,([^"]*)">', text)
    assert icon
    assert unquote(icon[1]).encode() == assets().named["icon.svg"].plain


def test_text_is_escaped_and_nothing_comes_from_elsewhere() -> None:
    answer = document("sign-in", SIGN_IN)
    text = bytes(answer.body).decode()
    assert "<b>" not in text
    assert "<u>" not in text
    assert '"><script>' not in text
    assert not re.findall(r'(?:src|href)="(?!/|#|data:image/svg)', text)
    assert {name: answer.headers[name] for name in SAFETY} == SAFETY


def test_no_file_has_a_style_or_script_in_its_text() -> None:
    """The policy refuses them, and nobody would see why."""
    for path in (PAGE / "templates").iterdir():
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son\w+=|<script>|<style", text), path.name
    for path in (PAGE / "assets").glob("*.js"):
        assert not HTML_OF_TEXT.search(path.read_text()), path.name
