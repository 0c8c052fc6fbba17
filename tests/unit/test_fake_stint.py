"""What `FakeStint` answers is what the real API would: the same client reads it."""

import asyncio
import io

import pytest

from stint.client import ApiRefusedError, Fact, JobFailedError
from stint.testing import Ending, FakeStint


async def test_a_job_ends_as_the_test_says() -> None:
    fake = FakeStint(lambda job: Ending(output=b"out\n", stderr=b"err\n", return_code=len(job.run)))
    async with fake.client() as stint:
        job = await stint.submit(queue="Deploys", image="busybox", run=["a", "b"], key="k")
        assert (await stint.submit(queue="Deploys", image="busybox", key="k")).id == job.id
        kinds = [item.kind async for item in job.stream() if isinstance(item, Fact)]
        assert kinds == ["submitted", "started", "ended"]
        with pytest.raises(JobFailedError) as caught:
            (await job.wait()).check()
        assert (caught.value.code, caught.value.reason, caught.value.last_lines) == (2, "exit_code", ("out", "err"))
        copy = io.BytesIO()
        await job.copy_output(copy, stream="stderr")
        assert (copy.getvalue(), await job.output(stream="stdout")) == (b"err\n", b"out\n")
        assert [found.queue async for found in stint.jobs(queue="deploys", status="failed")] == ["deploys"]
        again = await stint.rerun(job.id)
        assert (await again.wait()).last_lines == ("out", "err")
        for known in (job, again):
            await known.delete()
        assert [found async for found in stint.jobs()] == []
    assert [job.run for job in fake.submitted.values()] == [("a", "b")] * 2


async def test_a_job_without_an_ending_waits() -> None:
    fake = FakeStint(lambda _job: None)
    async with fake.client() as stint:
        killed, ended = [await stint.submit(image="busybox") for _ in range(2)]
        waiting = asyncio.create_task(ended.wait())
        await killed.kill()
        assert ((await killed.wait()).reason, (await ended.info()).status) == ("killed", "queued")
        await fake.end(ended.id, Ending(output=b"at last"))
        assert (await waiting).check().tail == b"at last"


async def test_what_it_does_not_know_is_not_found() -> None:
    async with FakeStint().client() as stint:
        for call in (stint.job("0" * 24).info(), stint.job("0" * 24).release(), stint.job("0" * 24).wait()):
            with pytest.raises(ApiRefusedError, match="not found"):
                await call
