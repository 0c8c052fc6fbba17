"""Contract, section 2: delete, at every moment of a job's life."""

from tests.api.client import JOB, Api, bad_request, new_queue, refused, until_term
from tests.support.waiting import until

RUNNING = "Cannot delete a running/stopping job"


async def gone(api: Api, job_id: str, qname: str, left: int) -> None:
    for path in (f"{JOB}/{job_id}", f"{JOB}/{job_id}/output", f"{JOB}/{job_id}/events"):
        assert refused(await api.http.get(path), 404, "Not Found.") == "not found"
    refused(await api.http.post(f"{JOB}/kill/{job_id}"), 404, "Not Found.")
    refused(await api.delete(job_id), 404, "Not Found.")
    await until(  # the list may lag, with this job as with others
        lambda: api.list(qname=qname),
        lambda body: body["total"] == left and job_id not in [job["_id"] for job in body["data"]],
    )


async def test_an_ended_job(api: Api) -> None:
    job = await api.run("echo out")
    await api.listed(1, qname=job["qname"])
    upper = job["_id"].upper()
    answer = await api.delete(upper)
    assert (answer.status_code, answer.json()) == (200, {"_id": upper}), "as in the URL"
    await gone(api, job["_id"], job["qname"], 0)


async def test_a_running_or_stopping_job_is_not_deleted(api: Api) -> None:
    job_id = await api.submit(until_term(""))
    await api.said(job_id)
    assert bad_request(await api.delete(job_id)) == RUNNING
    assert await api.status(job_id) == "running"
    await api.kill(job_id)
    assert await api.status(job_id) == "stopping"
    assert bad_request(await api.delete(job_id)) == RUNNING
    assert (await api.ended(job_id))["reason"] == "killed"
    assert (await api.delete(job_id)).status_code == 200


async def test_a_queued_job_never_runs(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname):
        queued = await api.submit("echo it ran", qname=qname)
        last = await api.submit("echo last", qname=qname)
        assert (await api.delete(queued)).json() == {"_id": queued}
        await gone(api, queued, qname, 2)
    assert (await api.ended(last))["output"] == "last\n"
    await gone(api, queued, qname, 2)


async def test_a_job_that_never_ran(api: Api) -> None:
    for fields in ({"wrap_secret_id": "junk"}, {"container_image": ""}):
        job = await api.run(**fields)
        assert (await api.delete(job["_id"])).status_code == 200
        await gone(api, job["_id"], job["qname"], 0)
