"""Contract, sections 0 and 3: an ended job can be seen for a while, and is then gone with its output."""

from tests.api.client import JOB, Api, new_queue, refused
from tests.api.conftest import RETENTION
from tests.support.waiting import until


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
