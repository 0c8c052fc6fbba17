"""What the command line says of who did what."""

import json
from datetime import UTC, datetime
from unittest.mock import ANY

import httpx
import msgspec
import pytest

from stint.cli import audit
from stint.client import AuditEntry, SecretUse
from tests.support.api_bench import BODY
from tests.support.ports import free_port
from tests.support.terminals import invoked
from tests.support.waiting import until

ENTRY = AuditEntry(
    at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    who="ann",
    entity="",
    accessor="",
    nats_user="",
    action="deleted",
    queue="deploys",
    job="a" * 24,
    runner="",
    reason="",
    address="10.0.0.1",
    answer="accepted",
    status="deleted",
    proven=True,
)
USE = SecretUse(
    at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    job="a" * 24,
    queue="deploys",
    who="ann",
    status="running",
    secret="kv/data/db.password",
    version=6,
    outdated=True,
)


async def test_all_pages_are_shown_up_to_the_limit(http: httpx.AsyncClient) -> None:
    jobs = [(await http.post("/v1/api/job", json={**BODY, "qname": "pages"})).json()["_id"] for _ in range(103)]
    arguments = ("audit", "--queue", "Pages", "--since", "1h", "--who", "token-stint-client", "--limit")
    result = await until(
        lambda: invoked(http, *arguments, "200", "-o", "name"), lambda found: len(found.stdout.splitlines()) == 103
    )
    assert result.stdout.splitlines() == jobs[::-1]
    some = await invoked(http, *arguments, "101", "-o", "json")
    assert [json.loads(shown)["job"] for shown in some.stdout.splitlines()] == jobs[:1:-1]
    assert json.loads(some.stdout.splitlines()[0])["from"] == "127.0.0.1"
    head, line = (await invoked(http, *arguments, "1")).stdout.splitlines()
    assert head.startswith("AT (UTC)")
    assert "token-stint-client?  submitted" in line
    none = await invoked(http, "audit", "--queue", "pages", "--since", "2100-01-01T00:00:00Z", "-o", "name")
    assert (none.exit_code, none.stdout) == (0, "")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ["2026-01-02 03:04:05", "ann", "deleted", "a" * 24, "deploys", "10.0.0.1", "accepted"]),
        ({"proven": False, "who": "", "nats_user": "UABC"}, [ANY, "UABC?", *[ANY] * 5]),
        ({"address": "", "answer": "ignored"}, [*[ANY] * 5, "-", "ignored"]),
        ({"action": "paused", "job": ""}, [ANY, "ann", "paused", "-", "deploys", ANY, "accepted"]),
        ({"job": "", "queue": "", "runner": "runner-1"}, [*[ANY] * 3, "runner-1", "-", *[ANY] * 2]),
    ],
)
def test_an_entry_is_a_row(changes: dict[str, object], shown: list[str]) -> None:
    row = msgspec.structs.replace(ENTRY, **changes)
    assert [column.text(row) for column in audit.ENTRIES if not column.wide] == shown


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ["2026-01-02 03:04:05", "a" * 24, "deploys", "ann", "running", "kv/data/db.password", "6, outdated"]),
        ({"outdated": False}, [*[ANY] * 6, "6"]),
        ({"version": None, "outdated": False}, [*[ANY] * 6, "-"]),
    ],
)
def test_a_secret_that_a_job_got_is_a_row(changes: dict[str, object], shown: list[str]) -> None:
    row = msgspec.structs.replace(USE, **changes)
    assert [column.text(row) for column in audit.USES] == shown


async def test_what_cannot_be_shown_is_said(http: httpx.AsyncClient) -> None:
    unreachable = f"http://127.0.0.1:{free_port()}"
    cases: list[tuple[int, tuple[str, ...], dict[str, str]]] = [
        (2, ("audit", "--since", "yesterday"), {}),
        (2, ("audit", "--limit", "0"), {}),
        (2, ("lineage", "x", "--version", "-1"), {}),
        (2, ("audit", "--queue", "x" * 1001), {}),
        (125, ("audit",), {"STINT_TOKEN": "no-such-token"}),
        (125, ("lineage", "x"), {"STINT_TOKEN": "no-such-token"}),
        (125, ("audit",), {"STINT_URL": unreachable}),
    ]
    for code, arguments, settings in cases:
        result = await invoked(http, *arguments, **settings)
        assert (result.exit_code, result.stdout) == (code, ""), arguments
        assert "no-such-token" not in result.stderr
        assert "Traceback" not in result.stderr
    nobody = await invoked(http, "lineage", "kv/data/no-such", "--version", "7", "--outdated", "-o", "name")
    assert (nobody.exit_code, nobody.stdout, nobody.stderr) == (0, "", "")
