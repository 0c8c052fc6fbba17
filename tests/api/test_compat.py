"""Contract, section 0: what STINT_COMPAT=gostint restores (rows marked (c)), and a cap on output."""

import json

import yaml

from tests.api.archive import targz
from tests.api.client import Api, Json, shell_job
from tests.api.conftest import OUTPUT_LIMIT


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


async def test_secret_references_are_added_together(compat: Api) -> None:
    """The request's, the content's, the payload's; of one variable the last."""
    await compat.vault.put_secret("merge", {"r": "request", "c": "content", "p": "payload"})
    job = await compat.run_sealed(
        shell_job(
            "grep -E '^(ONE|TWO|THREE)' /secrets.yml",
            secret_refs=["THREE@kv/data/merge.p"],
            content=targz({"gostint.yml": "secret_refs: ['TWO@kv/data/merge.c', 'THREE@kv/data/merge.c']"}),
        ),
        secret_refs=[f"{name}@kv/data/merge.r" for name in ("ONE", "TWO", "THREE")],
    )
    assert job["output"] == "ONE: request\nTHREE: payload\nTWO: content\n"


async def test_all_the_rest_is_as_everywhere(compat: Api) -> None:
    """Nothing but those rows: `container_id` and `reason` are there, and only documented fields count."""
    job = await compat.run("false", status="success", container_id="forged")
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "exit_code", 1)
    assert len(job["container_id"]) == 64


async def test_output_past_the_cap_is_cut_with_a_marker_while_the_job_goes_on(compat: Api) -> None:
    job = await compat.run("seq 1 20000; sleep 0.3; echo done >&2; (exit 5)")
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
