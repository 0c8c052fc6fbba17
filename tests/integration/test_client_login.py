"""`stint login`, with OpenBao as the provider and as Vault."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from stint.vault import Vault
from tests.support.oidc import Provider, provider
from tests.support.ports import free_port
from tests.support.servers import BaoProcess, OpenBao
from tests.support.stack import STINT, Result, finished, program
from tests.support.vault_bench import as_root
from tests.support.waiting import until_true

CALLBACK = "/oidc/callback"


class Login:
    """A `stint login` that shows `url`, and waits for its answer at `port`."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = ""
        self._said = b""

    async def shows(self) -> str:
        assert self.process.stdout
        async with asyncio.timeout(60):
            while not (found := re.search(r"^    (\S+)$", self._said.decode(), re.MULTILINE)):
                line = await self.process.stdout.readline()
                assert line, await self.end()
                self._said += line
        self.url = found[1]
        return self.url

    async def end(self) -> Result:
        async with asyncio.timeout(60):
            out, err = await self.process.communicate()
        return Result(self.process.returncode or 0, (self._said + out).decode(), err.decode())


@asynccontextmanager
async def started(home: Path, vault: str, *options: str, **env: str) -> AsyncIterator[Login]:
    port = free_port()
    environ = {"PATH": os.defpath, "HOME": str(home), "VAULT_ADDR": vault, **env}
    command = (str(STINT), "login", "--port", str(port), *options)
    async with program(*command, env=environ, stdout=PIPE, stderr=PIPE) as process:
        yield Login(process, port)


Start = Callable[..., AbstractAsyncContextManager[Login]]


@pytest.fixture
def login(tmp_path: Path, openbao: OpenBao, people: Provider) -> Start:
    """Starts one, with the test's folder as its home. The provider is set up."""
    assert people.issuer
    return partial(started, tmp_path, openbao.address)


async def open_in_a_browser(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(url)


async def test_the_token_goes_into_the_file(tmp_path: Path, login: Start, openbao: OpenBao, people: Provider) -> None:
    file = tmp_path / ".vault-token"
    file.write_text("an older one")
    file.chmod(0o644)
    async with login() as running:
        url = await running.shows()
        redirect = f"http://localhost:{running.port}{CALLBACK}"
        assert parse_qs(urlsplit(url).query)["redirect_uri"] == [redirect]
        answer = await people.answer(url)
        assert answer.startswith(redirect)
        with pytest.raises(httpx.ConnectError):  # whoever listens on all addresses has this one, too
            await open_in_a_browser(answer.replace("localhost", "127.0.0.2"))
        seen = await open_in_a_browser(answer)
        assert seen.status_code == httpx.codes.OK
        assert seen.headers["content-type"].startswith("text/plain")
        ended = await running.end()
    assert (ended.code, ended.err) == (0, "")
    token = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert token not in ended.out + seen.text
    caller = await Vault(openbao.address).lookup_self(token)
    assert caller.display_name == people.who
    assert "stint-client" in caller.policies
    assert re.search(
        rf"Signed in as {people.who} until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC\. The token is in {file}\.", ended.out
    )
    with pytest.raises(httpx.ConnectError):
        await open_in_a_browser(answer)


async def test_commands_use_the_token(tmp_path: Path, login: Start, openbao: OpenBao, people: Provider) -> None:
    async with login(VAULT_TOKEN="another") as running:
        await open_in_a_browser(await people.answer(await running.shows()))
        assert "does not count yet: VAULT_TOKEN is set (environment)" in (await running.end()).out
    async with login() as running:
        await open_in_a_browser(await people.answer(await running.shows()))
        assert "does not count" not in (await running.end()).out
    environ = {"PATH": os.defpath, "HOME": str(tmp_path), "VAULT_ADDR": openbao.address}
    assert f"{tmp_path}/.vault-token" in (await finished(STINT, "config", env=environ)).out


async def test_a_profile_says_which_vault(tmp_path: Path, openbao: OpenBao, people: Provider) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[profiles.there]\nvault_addr = "{openbao.address}"\n')
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with started(tmp_path, nowhere, "--profile", "there", STINT_CONFIG=str(config)) as running:
        assert (await running.shows()).startswith(people.issuer)


async def test_an_answer_to_another_sign_in_is_refused_and_the_right_one_still_taken(
    login: Start, people: Provider
) -> None:
    async with login() as attacker, login() as running:
        theirs, mine = await attacker.shows(), await running.shows()
        foreign = (await people.answer(theirs)).replace(f":{attacker.port}/", f":{running.port}/")
        for url in (foreign, f"http://localhost:{running.port}{CALLBACK}", f"{foreign}&state=%ed%a0%80"):
            assert (await open_in_a_browser(url)).status_code == httpx.codes.BAD_REQUEST
        assert (await open_in_a_browser(f"http://localhost:{running.port}/")).status_code == httpx.codes.NOT_FOUND
        await open_in_a_browser(await people.answer(mine))
        assert (await running.end()).code == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "error=access_denied&error_description=Not%1b[2Jassigned.",
            "did not sign you in: access_denied: Not\ufffd[2J",
        ),
        ("code=wrong", "Vault refused the request"),
        ("", "Vault refused the request"),
    ],
)
async def test_a_refusal_is_said(tmp_path: Path, login: Start, given: str, said: str) -> None:
    async with login() as running:
        state = parse_qs(urlsplit(await running.shows()).query)["state"][0]
        await open_in_a_browser(f"http://localhost:{running.port}{CALLBACK}?state={state}&{given}")
        ended = await running.end()
    assert ended.code == 125
    assert said in ended.err
    assert state not in ended.err
    assert not (tmp_path / ".vault-token").exists()


async def test_a_file_that_cannot_be_written_leaves_no_token_in_vault(
    tmp_path: Path, login: Start, openbao: OpenBao, people: Provider
) -> None:
    (tmp_path / ".vault-token").mkdir()

    async def accessors() -> set[str]:
        return {*(await as_root(openbao, lambda client: client.auth.token.list_accessors()))["data"]["keys"]}

    before = await accessors()
    async with login(STINT_TOKEN="x") as running:
        await open_in_a_browser(await people.answer(await running.shows()))
        ended = await running.end()
    assert (ended.code, ended.err) == (2, f"stint: {tmp_path}/.vault-token is not a regular file.\n")
    assert await accessors() <= before, "those of others may have ended meanwhile"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_it(login: Start, number: signal.Signals, code: int) -> None:
    async with login() as running:
        await running.shows()
        running.process.send_signal(number)
        ended = await running.end()
    assert (ended.code, ended.err) == (code, "")


async def test_it_does_not_wait_for_ever(login: Start) -> None:
    async with login("--timeout", "0.1") as running:
        ended = await running.end()
    assert (ended.code, ended.err) == (124, "stint: nobody has signed in within 0.1 s.\n")


async def test_two_cannot_wait_at_one_port(login: Start) -> None:
    async with login() as first:
        await first.shows()
        async with login("--port", str(first.port)) as second:
            ended = await second.end()
    assert ended.code == 2
    assert ended.err.startswith(
        f"stint: --port: 127.0.0.1 port {first.port} cannot be listened on: Address already in use."
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--role", "nobody"), 'role "nobody" could not be found'),
        (("--mount", "elsewhere"), "Is the auth method oidc mounted at auth/elsewhere?"),
        (("--mount", "a/../b"), "The Vault path is malformed."),
    ],
)
async def test_what_vault_lacks_is_named(login: Start, options: tuple[str, ...], said: str) -> None:
    async with login(*options) as running:
        ended = await running.end()
    assert (ended.code, ended.out) == (125, "")
    assert said in ended.err


@pytest.mark.soak
async def test_vault_that_is_away_before_and_after_the_browser(tmp_path: Path, bao_process: BaoProcess) -> None:
    people = await provider(bao_process.address, bao_process.root_token, "https://api")
    async with started(tmp_path, bao_process.address) as running:
        answer = await people.answer(await running.shows())
        await bao_process.kill()
        await open_in_a_browser(answer)
        ended = await running.end()
    async with started(tmp_path, bao_process.address) as running:
        first = await running.end()
    for result in (ended, first):
        assert result.code == 125
        assert re.search(r"^stint: Vault at \S+ is not reachable", result.err)
    assert not (tmp_path / ".vault-token").exists()


async def test_a_browser_is_opened_only_if_that_is_asked_for(tmp_path: Path, login: Start, people: Provider) -> None:
    """`BROWSER` names a program that opens the address, as Python's `webbrowser` finds it."""
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part; mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    for options in ((), ("--browser",)):
        async with login(*options, BROWSER=str(browser)) as running:
            url = await running.shows()
            if options:
                await until_true(opened.exists)
                await open_in_a_browser(await people.answer(url))
                assert (await running.end()).code == 0
                assert opened.read_text() == url
            else:
                assert not opened.exists()
