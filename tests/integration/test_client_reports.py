"""What the command line reports: who did what, and what is wrong."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import ANY

import httpx
import msgspec
import pytest

from stint.cli import audit
from stint.cli.doctor.finding import clock, skew
from stint.client import AuditEntry, SecretUse
from stint.vault.setup import client_token
from tests.support.api_bench import BODY
from tests.support.ports import free_port
from tests.support.servers import BaoProcess, NatsProcess, OpenBao
from tests.support.terminals import command, invoked
from tests.support.vault_bench import ROLE
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


async def test_a_secret_that_no_job_got_is_no_error(http: httpx.AsyncClient) -> None:
    nobody = await invoked(http, "lineage", "kv/data/no-such", "--version", "7", "--outdated", "-o", "name")
    assert (nobody.exit_code, nobody.stdout, nobody.stderr) == (0, "", "")


@pytest.fixture
def healthy(http: httpx.AsyncClient, openbao: OpenBao, nats: NatsProcess, tmp_path: Path) -> dict[str, str]:
    return {
        "STINT_URL": str(http.base_url),
        "STINT_TOKEN": http.headers["X-Auth-Token"],
        "STINT_ROLE": ROLE,
        "VAULT_ADDR": openbao.address,
        "NATS_URL": nats.url,
        "DOCKER_HOST": f"unix://{tmp_path / 'no.sock'}",
        "HOME": str(tmp_path),
    }


async def bad(settings: dict[str, str], *options: str) -> dict[str, str]:
    """What is wrong, by what it is about; each has a mend, and the exit code says so."""
    ended = await command({"PATH": os.defpath, **settings}, "doctor", "-o", "json", *options)
    assert ended.err == ""
    found = [json.loads(line) for line in ended.out.splitlines()]
    wrong = [finding for finding in found if finding["verdict"] == "bad"]
    assert all(finding["mend"] for finding in wrong)
    assert ended.code == bool(wrong)
    return {finding["about"]: finding["what"] for finding in wrong}


async def test_a_stack_without_runners_and_all_clocks(healthy: dict[str, str]) -> None:
    """The clock of NATS too, which says nothing of it before somebody logs in: the API knows it."""
    assert await bad(healthy, "--queue", "deploys") == {"runners": "none is alive; jobs that wait: 0"}
    ended = await command({"PATH": os.defpath, **healthy}, "doctor", "-o", "name")
    assert {"api clock", "nats clock", "vault clock"} <= {*ended.out.splitlines()}


async def test_servers_away_or_sealed(healthy: dict[str, str], tmp_path: Path, bao_process: BaoProcess) -> None:
    nowhere = f"http://u:sEcReT@127.0.0.1:{free_port()}"
    (tmp_path / "no.sock").touch()
    wrong = await bad(healthy | dict.fromkeys(("STINT_URL", "VAULT_ADDR", "NATS_URL"), nowhere))
    assert {*wrong} == {"api", "vault", "nats", "docker"}
    assert "sEcReT" not in str(wrong)
    async with httpx.AsyncClient(base_url=bao_process.address, trust_env=False) as vault:
        await vault.put("/v1/sys/seal", headers={"X-Vault-Token": bao_process.root_token})
    assert (await bad(healthy | {"VAULT_ADDR": bao_process.address}))["vault"].endswith("is sealed")


async def test_a_token_that_is_missing_unknown_or_weak(healthy: dict[str, str], openbao: OpenBao) -> None:
    assert {*await bad(healthy | {"STINT_TOKEN": ""})} == {"settings"}
    assert {*await bad(healthy | {"STINT_TOKEN": "unknown"})} == {"runners", "permissions", "token"}
    weak = await client_token(openbao.address, openbao.root_token, policies=["stint-sealer"])
    wrong = await bad(healthy | {"STINT_TOKEN": weak}, "--queue", "deploys")
    assert wrong["policies"] == "the token may not submit jobs to 'deploys' (create on stint/queue/deploys)"


@pytest.mark.parametrize(("seconds", "verdict"), [(0, "ok"), (-1.9, "ok"), (30, "warn"), (-30, "warn")])
def test_clocks(seconds: float, verdict: str) -> None:
    assert skew("api", seconds).verdict == verdict
    assert clock("api", None) == clock("api", "nonsense") == []
