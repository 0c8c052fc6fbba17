"""What `stint doctor` finds wrong, each with how to mend it."""

import json
import os
from pathlib import Path

import httpx
import pytest

from stint.cli.doctor.finding import clock, skew
from stint.vault.setup import client_token
from tests.support.ports import free_port
from tests.support.servers import BaoProcess, NatsProcess, OpenBao
from tests.support.terminals import command
from tests.support.vault_bench import ROLE


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


async def test_servers_that_are_not_there_or_sealed(
    healthy: dict[str, str], tmp_path: Path, bao_process: BaoProcess
) -> None:
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


@pytest.mark.soak
async def test_a_server_that_is_no_nats(healthy: dict[str, str], http: httpx.AsyncClient) -> None:
    wrong = await bad(healthy | {"NATS_URL": f"nats://127.0.0.1:{http.base_url.port}"})
    assert "does not answer as a NATS server" in wrong["nats"]


@pytest.mark.parametrize(("seconds", "verdict"), [(0, "ok"), (-1.9, "ok"), (30, "warn"), (-30, "warn")])
def test_clocks(seconds: float, verdict: str) -> None:
    assert skew("api", seconds).verdict == verdict
    assert clock("api", {}) == clock("api", {"date": "nonsense"}) == []
