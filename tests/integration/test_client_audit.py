"""What the command line says of who did what."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from typer.testing import CliRunner, Result

from stint.cli import lineage
from stint.cli.app import app
from stint.cli.audit import line
from tests.support.api_bench import BODY, api_process
from tests.support.servers import NatsProcess, OpenBao, free_port
from tests.support.waiting import until

ENTRY = {
    "at": "2026-01-02T03:04:05.000Z",
    "who": "ann",
    "nats_user": "",
    "action": "kill_requested",
    "qname": "deploys",
    "job": "a" * 24,
    "from": "10.0.0.1",
    "answer": "accepted",
    "proven": True,
}


@pytest.fixture(scope="module")
async def http(
    nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    async with api_process(tmp_path_factory.mktemp("api"), nats.url, openbao) as (_, http):
        yield http


async def stint(http: httpx.AsyncClient, *arguments: str, **settings: str) -> Result:
    env = {"STINT_URL": str(http.base_url), "STINT_TOKEN": http.headers["X-Auth-Token"], **settings}
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=env, prog_name="stint")


async def test_all_pages_are_shown_up_to_the_limit(http: httpx.AsyncClient) -> None:
    jobs = [(await http.post("/v1/api/job", json={**BODY, "qname": "pages"})).json()["_id"] for _ in range(103)]
    arguments = ("audit", "--queue", "Pages", "--since", "1h", "--who", "token-stint-client", "--limit")
    result = await until(lambda: stint(http, *arguments, "200"), lambda found: len(found.stdout.splitlines()) == 103)
    assert [shown.split()[3] for shown in result.stdout.splitlines()] == jobs[::-1]
    some = await stint(http, *arguments, "101", "--json")
    assert [json.loads(shown)["job"] for shown in some.stdout.splitlines()] == jobs[:1:-1]
    none = await stint(http, "audit", "--queue", "pages", "--since", "2100-01-01T00:00:00Z")
    assert (none.exit_code, none.stdout) == (0, "")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "ann killed aaaaaaaaaaaaaaaaaaaaaaaa in 'deploys' from 10.0.0.1"),
        ({"proven": False, "who": ""}, "somebody? killed aaaaaaaaaaaaaaaaaaaaaaaa in 'deploys' from 10.0.0.1"),
        ({"action": "deleted", "from": ""}, "ann deleted aaaaaaaaaaaaaaaaaaaaaaaa in 'deploys'"),
        ({"answer": "ignored", "from": ""}, "ann killed aaaaaaaaaaaaaaaaaaaaaaaa in 'deploys' (ignored)"),
        ({"who": "a\x1b[2J\nb", "from": ""}, "a\ufffd[2J\ufffdb killed aaaaaaaaaaaaaaaaaaaaaaaa in 'deploys'"),
    ],
)
def test_a_line_cannot_be_mistaken_for_another(changes: dict[str, object], shown: str) -> None:
    assert line(ENTRY | changes) == f"2026-01-02T03:04:05.000Z  {shown}"


async def test_what_cannot_be_shown_is_said(http: httpx.AsyncClient) -> None:
    unreachable = f"http://127.0.0.1:{free_port()}"
    cases: list[tuple[int, tuple[str, ...], dict[str, str]]] = [
        (2, ("--since", "yesterday"), {}),
        (2, ("--since", "5y"), {}),
        (2, ("--queue", "x" * 1001), {}),
        (2, ("--limit", "0"), {}),
        (125, (), {"STINT_TOKEN": "no-such-token"}),
        (125, (), {"STINT_URL": unreachable}),
    ]
    for code, arguments, settings in cases:
        result = await stint(http, "audit", *arguments, **settings)
        assert (result.exit_code, result.stdout) == (code, "")
        assert "no-such-token" not in result.stderr
        assert "Traceback" not in result.stderr


HOLDER = {
    "at": "2026-01-02T03:04:05.000Z",
    "job": "a" * 24,
    "qname": "deploys",
    "who": "ann",
    "status": "running",
    "secret": "kv/data/db.password",
    "version": 6,
    "outdated": True,
}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "in 'deploys' of ann, running: kv/data/db.password version 6 (outdated)"),
        ({"version": None, "outdated": False, "who": ""}, "in 'deploys' of somebody, running: kv/data/db.password"),
    ],
)
def test_a_secret_a_job_got_is_a_line(changes: dict[str, object], shown: str) -> None:
    assert lineage.line(HOLDER | changes) == f"2026-01-02T03:04:05.000Z  {'a' * 24} {shown}"


async def test_the_lineage_of_a_secret_is_asked_for(http: httpx.AsyncClient) -> None:
    nobody = await stint(http, "lineage", "kv/data/no-such", "--version", "7", "--outdated")
    assert (nobody.exit_code, nobody.stdout, nobody.stderr) == (0, "", "")
    assert (await stint(http, "lineage", "x", "--version", "-1")).exit_code == 2
    assert (await stint(http, "lineage", "x", STINT_TOKEN="no-such-token")).exit_code == 125
