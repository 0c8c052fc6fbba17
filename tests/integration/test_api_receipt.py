"""Receipts that a real Vault signs, and the release of held jobs."""

import asyncio
import json
import secrets
from pathlib import Path

import httpx
import pytest

from stint.client.receipts import PublicKeys, check_receipt
from stint.core.audit.receipt import NOT_OVER
from stint.core.codec import decode
from stint.core.events import AnyEvent, Released
from stint.core.view import NEVER, parse_time, rfc3339, view
from stint.ports import Outcome
from stint.vault import RECEIPT_KEY
from stint.vault.policies import API
from stint_api.audit.receipt import NO_KEY
from tests.support.api_bench import Bench, api
from tests.support.events import ended, held, kill_requested, launched, started
from tests.support.outputs import Writer
from tests.support.ports import free_port
from tests.support.servers import BaoProcess, NatsProcess
from tests.support.terminals import invoked
from tests.support.waiting import until


async def receipt_of(bench: Bench, job_id: str) -> bytes:
    answer = await bench.http.get(f"/v1/api/job/{job_id}/receipt")
    assert answer.status_code == 200, answer.text
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("application/json", "nosniff")
    return answer.content


async def keys_of(bench: Bench) -> PublicKeys:
    return decode((await bench.http.get("/v1/api/receipt/keys")).content, PublicKeys)


async def test_only_who_may_read_a_job_that_is_over_gets_one(bench: Bench) -> None:
    for facts in ((), (started(),), (started(), launched())):
        answer = await bench.http.get(f"/v1/api/job/{await bench.happened(*facts)}/receipt")
        assert (answer.status_code, answer.json()["error"]) == (400, NOT_OVER)
    job_id = await bench.happened(started(), ended())
    token = await bench.limited_token(0)
    async with bench.client({"X-Auth-Token": token}) as http:
        assert (await http.get(f"/v1/api/job/{job_id}/receipt")).status_code == 403
        assert (await http.get("/v1/api/receipt/keys")).status_code == 200, "they are public"
    async with bench.client() as stranger:
        for path in (f"/v1/api/job/{job_id}/receipt", "/v1/api/receipt/keys"):
            assert (await stranger.get(path)).status_code == 400
    await bench.http.delete(f"/v1/api/job/{job_id}")
    for gone in (job_id, "0" * 24):
        assert (await bench.http.get(f"/v1/api/job/{gone}/receipt")).status_code == 404


async def test_old_receipts_are_good_after_a_rotation(bench: Bench) -> None:
    job_id = await bench.happened(started(), ended())
    before, old_keys = await receipt_of(bench, job_id), await keys_of(bench)
    await bench.admin(lambda client: client.secrets.transit.rotate_key(RECEIPT_KEY))
    after, new_keys = await receipt_of(bench, job_id), await keys_of(bench)
    newest = max(new_keys.keys)
    assert newest == max(old_keys.keys) + 1
    assert [check_receipt(data, new_keys).key.version for data in (before, after)] == [newest - 1, newest]
    assert check_receipt(before, old_keys)


async def test_a_vault_that_was_set_up_before_receipts_is_named(nats: NatsProcess, bao_process: BaoProcess) -> None:
    async with api(nats.url, bao_process) as bench:
        job_id = await bench.happened(started(), ended())
        rules = (await bench.admin(lambda client: client.sys.read_policy(API)))["data"]["rules"]
        only = 'path "sys/capabilities" { capabilities = ["update"] }'
        await bench.admin(lambda client: client.sys.create_or_update_policy(API, only))
        for path in (f"/v1/api/job/{job_id}/receipt", "/v1/api/receipt/keys"):
            answer = await bench.http.get(path)
            assert (answer.status_code, answer.json()["error"]) == (500, NO_KEY)
        await bench.admin(lambda client: client.sys.create_or_update_policy(API, rules))
        await bench.admin(
            lambda client: client.secrets.transit.update_key_configuration(RECEIPT_KEY, deletion_allowed=True)
        )
        await bench.admin(lambda client: client.secrets.transit.delete_key(RECEIPT_KEY))
        answer = await bench.http.get(f"/v1/api/job/{job_id}/receipt")
        assert (answer.status_code, answer.json()["error"]) == (500, NO_KEY)


async def test_a_receipt_is_checked_without_a_server(bench: Bench, http: httpx.AsyncClient, tmp_path: Path) -> None:
    job_id = await bench.happened(started(), launched(), ended("failed", "exit_code", 3))
    file, keys = tmp_path / "receipt.json", tmp_path / "keys.json"
    file.write_bytes((await invoked(http, "receipt", job_id.upper())).stdout_bytes)
    keys.write_bytes((await invoked(http, "receipt", "--public-key")).stdout_bytes)
    nowhere = {"STINT_URL": f"http://127.0.0.1:{free_port()}", "STINT_PUBLIC_KEY": str(keys)}
    result = await invoked(http, "verify", str(file), **nowhere)
    assert (result.exit_code, result.stderr) == (0, "")
    said = result.stdout.splitlines()
    assert said[0].startswith(f"Genuine: the receipt of job {job_id}, signed by version")
    assert said[5].startswith("ended       failed (exit_code), exit code 3, at 2")
    forged = file.read_bytes().replace(b'"return_code":3', b'"return_code":0')
    file.write_bytes(forged)
    result = await invoked(http, "verify", str(file), "--public-key", str(keys))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "stint: The signature does not fit: the receipt was changed, or was not signed by this key.\n"
    )


async def test_what_cannot_be_fetched_or_checked_is_said(bench: Bench, http: httpx.AsyncClient, tmp_path: Path) -> None:
    running, nothing, keys = await bench.happened(started()), tmp_path / "nothing", tmp_path / "keys.json"
    keys.write_text(json.dumps({"name": RECEIPT_KEY, "keys": {}}))
    junk = tmp_path / "junk"
    junk.write_bytes(secrets.token_bytes(100))
    cases: list[tuple[int, tuple[str, ...]]] = [
        (125, ("receipt", running)),
        (125, ("receipt", "0" * 24)),
        (2, ("receipt", "junk")),
        (2, ("receipt", running, "--public-key")),
        (2, ("verify", str(junk))),
        (2, ("verify", str(tmp_path), "--public-key", str(keys))),
        (2, ("verify", str(junk), "--public-key", str(nothing))),
        (1, ("verify", str(junk), "--public-key", str(keys))),
    ]
    for code, arguments in cases:
        result = await invoked(http, *arguments)
        assert (result.exit_code, result.stdout) == (code, ""), arguments
        assert "Traceback" not in result.stderr
    assert NOT_OVER in (await invoked(http, "receipt", running)).stderr


async def release(bench: Bench, job_id: str) -> httpx.Response:
    return await bench.http.post(f"/v1/api/job/{job_id}/release")


async def back_since(bench: Bench, job_id: str) -> tuple[str | None, str | None]:
    """Since when the job's runner is back: by a GET, and at the end of its live stream once the job has ended."""
    shown = (await bench.http.get(f"/v1/api/job/{job_id}")).json()
    if shown["ended"] == NEVER:
        return shown["back_since"], None
    stream = (await bench.http.get(f"/v1/api/job/{job_id}/events")).text
    end = json.loads(stream.rpartition("data: ")[2])
    return shown["back_since"], end["back_since"]


async def test_a_held_job_says_since_when_its_runner_is_back(bench: Bench) -> None:
    job_id = await bench.happened(started())
    token = (await bench.load(job_id)).token
    writer = Writer(bench.parts.output, token, job_id)
    await writer.write(b"before\n")
    assert await back_since(bench, job_id) == (None, None), "not held"
    assert await bench.parts.log.append(token, job_id, held()) is Outcome.WON
    assert await back_since(bench, job_id) == (None, None), "no sign since it was held"
    for _ in range(3):
        await writer.write(b"after\n")
    chunks = [chunk async for chunk in bench.parts.output.read(token, job_id)]
    back = rfc3339(parse_time(chunks[1].time))
    assert await back_since(bench, job_id) == (back, None), "the first output since then"
    assert await bench.parts.log.append(token, job_id, writer.counted(ended())) is Outcome.WON
    assert await back_since(bench, job_id) == (back, back)
    await bench.put_view(view(await bench.load(job_id)))
    listed = await until(lambda: bench.http.get(f"/v1/api/job?id={job_id}"), lambda answer: answer.json()["total"])
    assert [job["back_since"] for job in listed.json()["data"]] == [None], "lists do not find it out"


@pytest.mark.parametrize("sign", [launched(), ended("failed")], ids=["launched", "ended"])
async def test_without_output_what_the_runner_records_says_that_it_is_back(bench: Bench, sign: AnyEvent) -> None:
    job_id = await bench.happened(started(), held(), kill_requested())
    assert await back_since(bench, job_id) == (None, None), "somebody else asked for the kill"
    job = await bench.load(job_id)
    assert await bench.parts.log.append(job.token, job_id, sign) is Outcome.WON
    seen = rfc3339(parse_time((await bench.load(job_id)).facts[sign.kind].time))
    assert (await back_since(bench, job_id))[0] == seen


async def test_many_releases_at_once_are_one(bench: Bench) -> None:
    job_id = await bench.happened(started(), held())
    answers = await asyncio.gather(*(release(bench, job_id) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["status"] for answer in answers} <= {"running", "unknown"}


async def test_either_the_release_or_the_runner_that_came_back_ends_the_job(bench: Bench) -> None:
    for _ in range(10):
        job_id = await bench.happened(started(), held())
        token = (await bench.load(job_id)).token
        answer, outcome = await asyncio.gather(
            release(bench, job_id), bench.parts.log.append(token, job_id, ended("success"))
        )
        job = await bench.load(job_id)
        if outcome is Outcome.WON:
            assert (answer.status_code, job.state.value, Released.kind in job.facts) == (400, "success", False)
        else:
            assert (answer.status_code, job.state.value, Released.kind in job.facts) == (200, "unknown", True)


async def test_who_may_release_needs_no_other_right_and_gets_none(bench: Bench) -> None:
    """Who has all rights in a queue but this one, `test_api_policies.py` shows."""
    token = await bench.token_with('path "stint/release/deploys" { capabilities = ["update"] }')
    path = f"/v1/api/job/{await bench.happened(started(), held())}"
    async with bench.client({"X-Auth-Token": token}) as http:
        assert (await http.post(f"{path}/release")).status_code == 200
        assert (await http.get(path)).status_code == 403
