"""Contract, section 0: what STINT_COMPAT=gostint restores (rows marked (c)), a cap on output, and a short retention."""

import json

import yaml

from tests.api.archive import targz
from tests.api.client import JOB, Api, Json, in_steps, new_queue, refused, shell
from tests.api.conftest import OUTPUT_LIMIT, RETENTION
from tests.support.waiting import until


def env(output: str) -> Json:
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


async def test_output_is_stdout_only(compat: Api) -> None:
    job = await compat.run("echo out; sleep 0.05; echo err >&2")
    assert (job["output"], job["stdout"], job["stderr"]) == ("out\n", "out\n", "err\n")


async def test_the_jobs_token_is_in_the_container_and_all_can_read_the_secrets(compat: Api) -> None:
    job = await compat.run("env; stat -c 'STAT=%u:%g %a' /secrets.yml; cat /secrets.yml")
    environment, _, document = job["stdout"].partition("---\n")
    token = env(environment)["VAULT_TOKEN"]
    assert token
    assert yaml.safe_load(document)["TOKEN"] == token
    assert env(environment)["STAT"] == "0:0 444"
    job = await compat.run("cat /secrets.json", secret_file_type="json")
    assert json.loads(job["stdout"])["TOKEN"]


async def test_containers_are_not_hardened(compat: Api) -> None:
    job = await compat.run("grep -E '^(NoNewPrivs|CapBnd):' /proc/self/status")
    found = dict(line.split(":\t") for line in job["output"].splitlines())
    assert found["NoNewPrivs"] == "0"
    assert int(found["CapBnd"], 16) != 0


async def test_the_request_fills_what_the_payload_leaves_unset(compat: Api) -> None:
    """Secret references of request, content and payload are added together; of one variable the last counts."""
    await compat.vault.put_secret("merge", {"r": "request", "c": "content", "p": "payload"})
    content = targz({"gostint.yml": "secret_refs: ['TWO@kv/data/merge.c', 'THREE@kv/data/merge.c']"})
    job = await compat.run_sealed(
        {
            "qname": new_queue(),
            "env_vars": ["A=payload"],
            "secret_refs": ["THREE@kv/data/merge.p"],
            "content": content,
            "secret_file_type": "json",
        },
        container_image="busybox",
        run=shell("echo request $A; pwd; cat /secrets.json"),
        working_directory="/var",
        tty=True,
        env_vars=["A=request"],
        secret_refs=[f"{name}@kv/data/merge.r" for name in ("ONE", "TWO", "THREE")],
        secret_file_type="yaml",
    )
    printed, folder, document = job["output"].split("\r\n", 2)
    assert (job["status"], printed, folder, job["tty"]) == ("success", "request payload", "/var", True)
    assert json.loads(document) | {"TOKEN": ""} == {"ONE": "request", "TWO": "content", "THREE": "payload", "TOKEN": ""}


async def test_all_the_rest_is_as_everywhere(compat: Api) -> None:
    """Nothing but those rows: `container_id` and `reason` are there, and only documented fields count."""
    job = await compat.run("false", status="success", container_id="forged")
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "exit_code", 1)
    assert len(job["container_id"]) == 64


async def test_output_past_the_cap_is_cut_with_a_marker_while_the_job_goes_on(compat: Api) -> None:
    job_id = await compat.submit(in_steps("seq 1 20000", "echo done >&2; (exit 5)"))
    await compat.said(job_id, "truncated")
    await compat.go_on(job_id)
    job = await compat.ended(job_id)
    whole = "".join(f"{number}\n" for number in range(1, 20001))
    assert (job["return_code"], job["output_truncated"]) == (5, True)
    assert job["stdout"][:OUTPUT_LIMIT] == whole[:OUTPUT_LIMIT]
    marker = job["stdout"][OUTPUT_LIMIT:]
    assert str(OUTPUT_LIMIT) in marker
    assert "truncated" in marker
    assert "done" not in job["stderr"]
    raw = await compat.raw(job["_id"])
    assert raw.decode() == job["stdout"] + job["stderr"]
    assert job["output_bytes"] == len(raw)
    at_the_cap = await compat.run(f"head -c {OUTPUT_LIMIT} /dev/zero | tr '\\0' x")
    assert (at_the_cap["output_truncated"], at_the_cap["stdout"]) == (False, "x" * OUTPUT_LIMIT)


async def test_an_ended_job_goes_after_its_time(compat: Api) -> None:
    qname = new_queue()
    jobs = [
        await compat.run("echo out", qname=qname),
        await compat.run(qname=qname, wrap_secret_id="junk"),
        await compat.run(qname=qname, container_image=""),
    ]
    async with compat.busy(new_queue()) as running:
        await until(
            lambda: compat.http.get(f"{JOB}/{jobs[-1]['_id']}"),
            lambda answer: answer.status_code != 200,
            seconds=RETENTION + 10,
        )
        for job in jobs:
            for path in ("", "/output", "/events"):
                assert refused(await compat.http.get(f"{JOB}/{job['_id']}{path}"), 404, "Not Found.") == "not found"
            refused(await compat.delete(job["_id"]), 404, "Not Found.")
            refused(await compat.http.post(f"{JOB}/kill/{job['_id']}"), 404, "Not Found.")
        await compat.listed(0, qname=qname)
        assert await compat.status(running) == "running", "what has not ended stays"
