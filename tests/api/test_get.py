"""Contract, sections 0 and 2: one job as it is shown."""

import re
from datetime import datetime

import pytest

from tests.api.client import JOB, NEVER, UNKNOWN_ID, Api, Json, bad_request, new_queue, refused, shell

TYPES = {
    **dict.fromkeys(("_id", "status", "node_uuid", "qname", "container_image", "submitted", "started", "ended"), str),
    **dict.fromkeys(("output", "stdout", "stderr", "container_id", "reason", "error", "submitted_by"), str),
    **dict.fromkeys(("held_since", "waits_for", "kill_requested_at"), str),
    **dict.fromkeys(("return_code", "output_bytes", "position"), int),
    "kill_grace": float,
    "back_since": type(None),
    **dict.fromkeys(("tty", "kill_requested", "held", "output_truncated", "output_complete"), bool),
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)")


def typed(job: Json) -> None:
    wrong = {name: job.get(name, "missing") for name, kind in TYPES.items() if type(job.get(name)) is not kind}
    assert wrong == {}


async def test_every_key_is_there_at_every_moment(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname) as running:
        queued = await api.submit(qname=qname)
        queued_job(await api.get(queued), qname)
        running_job(await api.get(running))
        assert await api.raw(running) == b"ready\n"
    for job in (await api.ended(running), await api.ended(queued), await api.run(wrap_secret_id="junk")):
        typed(job)


def queued_job(job: Json, qname: str) -> None:
    typed(job)
    assert (job["status"], job["qname"], job["container_image"]) == ("queued", qname, "busybox")
    assert (job["node_uuid"], job["container_id"], job["output"]) == ("", "", "")
    assert (job["started"], job["ended"], job["return_code"]) == (NEVER, NEVER, 0)
    assert TIME.fullmatch(job["submitted"])


def running_job(job: Json) -> None:
    typed(job)
    shown = (job["status"], job["ended"], job["output"], job["output_bytes"], job["kill_requested"])
    assert shown == ("running", NEVER, "ready\n", 6, False)
    assert job["node_uuid"]
    assert re.fullmatch(r"[0-9a-f]{64}", job["container_id"])


async def test_an_ended_job_and_a_success(api: Api) -> None:
    job = await api.run("echo out; echo err >&2; (exit 3)")
    assert (job["status"], job["return_code"], job["reason"]) == ("failed", 3, "exit_code")
    assert (job["stdout"], job["stderr"]) == ("out\n", "err\n")
    assert (job["output_bytes"], job["output_complete"], job["output_truncated"]) == (8, True, False)
    assert job["submitted_by"]
    times = [job["submitted"], job["started"], job["ended"]]
    assert all(TIME.fullmatch(time) for time in times)
    moments = [datetime.fromisoformat(time) for time in times]
    assert moments == sorted(moments)
    assert moments[0] < moments[2]
    upper = (await api.http.get(f"{JOB}/{job['_id'].upper()}")).json()
    assert upper == job, "ids of either case"
    job = await api.run("echo hello")
    shown = {name: job[name] for name in ("status", "return_code", "output", "reason", "error", "tty")}
    wanted = {"status": "success", "return_code": 0, "output": "hello\n", "reason": "", "error": "", "tty": False}
    assert shown == wanted


async def test_the_image_is_shown_as_given_once_the_payload_is_open(api: Api) -> None:
    qname = new_queue()
    payload = {"qname": qname, "container_image": "docker.io/library/busybox", "run": shell("true")}
    async with api.busy(qname):
        job_id = await api.taken(await api.sealed(payload))
        assert (await api.get(job_id))["container_image"] == ""
    assert (await api.ended(job_id))["container_image"] == "docker.io/library/busybox"


@pytest.mark.parametrize("job_id", ["junk", "0" * 23, "0" * 25, "g" * 24, "0" * 23 + "%20", "\u0660" * 24, UNKNOWN_ID])
async def test_what_is_no_id_and_an_unknown_one(api: Api, job_id: str) -> None:
    for method, path in (
        ("GET", job_id),
        ("DELETE", job_id),
        ("GET", f"{job_id}/output"),
        ("GET", f"{job_id}/events"),
        ("POST", f"{job_id}/release"),
        ("POST", f"{job_id}/rerun"),
        ("POST", f"kill/{job_id}"),
    ):
        answer = await api.http.request(method, f"{JOB}/{path}")
        if job_id == UNKNOWN_ID:
            assert refused(answer, 404, "Not Found.") == "not found"
        else:
            assert bad_request(answer) == "Invalid job ID (not ObjectIdHex)"


async def test_where_nothing_ran_the_error_stands_in_the_output(api: Api) -> None:
    job = await api.run(container_image="")
    assert (job["status"], job["return_code"], job["reason"]) == ("failed", 0, "image")
    assert job["output"] == job["error"] == "ContainerImage is empty"
    assert (job["stdout"], job["stderr"], job["output_bytes"]) == ("", "", 0)
    assert await api.raw(job["_id"]) == b""
    assert job["ended"] != NEVER
