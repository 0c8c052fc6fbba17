"""What `FakeStint` answers is what the real API would: the same client reads it."""

import gc
import io
from contextlib import aclosing
from typing import Any

import pytest

from stint.client import ApiRefusedError, JobFailedError
from stint.testing import Ending, FakeStint


async def test_a_job_ends_as_the_test_says() -> None:
    fake = FakeStint(lambda job: Ending(output=b"out\n", stderr=b"err\n", return_code=len(job.run)))
    async with fake.client() as stint:
        job = await stint.submit(image="busybox", run=["a", "b"])
        with pytest.raises(JobFailedError) as caught:
            (await job.wait()).check()
        assert (caught.value.code, caught.value.reason, caught.value.last_lines) == (2, "exit_code", ("out", "err"))
        copy = io.BytesIO()
        await job.copy_output(copy, stream="stderr")
        assert (copy.getvalue(), await job.output(stream="stdout")) == (b"err\n", b"out\n")
        again = await stint.rerun(job.id)
        assert (await again.wait()).last_lines == ("out", "err")
        await job.delete()
        assert [found.id async for found in stint.jobs()] == [again.id]
    assert [job.run for job in fake.submitted.values()] == [("a", "b")] * 2


async def test_a_paused_queue_starts_nothing() -> None:
    fake = FakeStint(lambda job: Ending(output=job.qname.encode()))
    async with fake.client() as stint:
        await stint.pause("deploys", reason="a test")
        paused, other = [await stint.submit(queue=queue, image="busybox") for queue in ("Deploys", "other")]
        assert ((await paused.info()).status, (await other.info()).status) == ("queued", "success")
        await stint.resume("DEPLOYS")
        assert (await paused.wait()).tail == b"deploys"


async def test_a_held_queue_starts_nothing_until_it_is_released() -> None:
    fake = FakeStint(lambda job: None if job.on_lost else Ending())
    async with fake.client() as stint:
        held = await stint.submit(queue="deploys", image="busybox", on_lost="hold")
        await fake.hold(held.id)
        waiting = await stint.submit(queue="deploys", image="busybox")
        assert ((await held.info()).held, (await waiting.info()).status) == (True, "queued")
        await held.release()
        assert (await waiting.wait()).check().runner == "fake"


async def test_a_runner_that_drains_starts_nothing() -> None:
    async with FakeStint().client() as stint:
        (runner,) = await stint.runners()
        assert (runner.name, runner.alive, runner.draining) == ("fake", True, False)
        await stint.drain("fake")
        job = await stint.submit(queue="deploys", image="busybox")
        (runner,) = await stint.runners()
        assert (runner.draining, runner.drained_by, runner.running) == (True, "fake", ())
        assert ((await job.info()).status, (await stint.queue("deploys")).served) == ("queued", False)


@pytest.mark.parametrize("wanted", [{"held": True}, {"image": "nginx"}, {"text": "nowhere"}])
async def test_a_filter_that_it_does_not_know_is_refused(wanted: Any) -> None:
    async with FakeStint().client() as stint:
        await stint.submit(image="busybox")
        for asked in (stint.counts(**wanted), anext(stint.jobs(**wanted))):
            with pytest.raises(ApiRefusedError) as caught:
                await asked
            assert caught.value.code == 404


async def test_changes_are_resumed_where_they_broke_off() -> None:
    async with FakeStint().client() as stint, aclosing(stint.events(queue="A", status="success")) as told:
        assert (await anext(told)).kind == "begun"
        jobs = [await stint.submit(queue=queue, image="busybox") for queue in ("a", "b", "a")]
        await jobs[0].delete()
        changes = [await anext(told) for _ in range(3)]
        # As with the API, a change shows the job as it is now.
        assert [(change.kind, change.id) for change in changes][-1] == ("gone", jobs[0].id)


def test_a_client_without_async_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio logs each task that is still pending when its loop is gone."""
    for _ in range(20):
        with FakeStint(lambda _: Ending(output=b"done\n")).sync_client() as stint:
            job = stint.submit(queue="deploys", image="busybox")
            assert job.wait().tail == b"done\n"
    gc.collect()
    assert caplog.messages == []
