"""What strangers, wrong settings and bad moments do to runners."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from aiodocker.containers import DockerContainer
from aiohttp import ServerDisconnectedError

from stint.core.errors import EngineError, EngineUnavailableError
from stint.core.events import AnyEvent, Rejected
from stint.core.job import Job, State
from stint.core.names.headers import LABEL_JOB
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import EventAddress, event_filter, parse_event_subject
from stint.jetstream.streams.stream import Stream
from stint.vault import Ticket
from stint_projector.rebuild import rebuild
from stint_runner.dispatch import adopt, worker
from stint_runner.engine import space
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerInfo, ContainerSpec, Exit, OutputPiece
from stint_runner.engine.removal import cleared
from stint_runner.engine.space import FULL
from stint_runner.job import examine
from stint_runner.watchdog.deadlines import Deadline, StateError
from tests.api.archive import targz
from tests.integration.test_projector import projector
from tests.support.brokers import LEASE
from tests.support.events import TOKEN, ended, kill_requested, started
from tests.support.runner_bench import Bench
from tests.support.waiting import until, until_true

pytestmark = pytest.mark.soak


async def test_a_runner_that_may_not_open_tickets_leaves_the_job_to_others(bench: Bench) -> None:
    good = dict(bench.role_settings)
    bench.role_settings["STINT_RUNNER_SECRET_ID"] = "wrong"
    async with bench.runner("misconfigured"):
        job_id = await bench.submit("true")
        bench.role_settings.update(good)
        async with bench.runner("good"):
            job, _ = await bench.end(job_id)
    assert (job.state, job.runner) == (State.SUCCESS, "good")


def _refusing(call: str, error: EngineError) -> DockerEngine:
    """An engine that raises this when this is called."""
    engine = DockerEngine()

    async def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    setattr(engine, call, refuse)
    return engine


@pytest.mark.parametrize(
    ("call", "payload", "reason"),
    [
        ("create", {}, "container"),
        ("start", {}, "container"),
        ("put_archive", {}, "container"),  # of the secrets file
        ("freeze", {"read_only": True}, "container"),
        ("ensure_image", {"image_pull_policy": "Always"}, "image"),
    ],
)
async def test_a_runner_whose_engine_has_no_room_fails_one_job_and_leaves_the_others_to_others(
    bench: Bench, call: str, payload: dict[str, Any], reason: str
) -> None:
    no_room = EngineError("write /var/lib/docker/x: no space left on device")
    async with bench.runner("full", engine=_refusing(call, no_room)):
        job_ids = [await bench.submit(payload=payload), await bench.submit()]
        _, end = await bench.end(job_ids[0])
        assert (end.status, end.reason, end.output_complete) == ("failed", reason, True), "nothing of it is missing"
        assert bench.runners["full"].space.missing() == FULL
        async with bench.runner("good"):
            job, _ = await bench.end(job_ids[1])
    assert (job.state, job.runner) == (State.SUCCESS, "good")


@pytest.mark.parametrize(
    "payload",
    [
        {"container_image": "no space left on device"},
        {"image_pull_policy": "no space left on device"},
        {"secret_refs": ["no space left on device"]},
        {"content": targz({"tmp/f": "x"}, pax_headers={"SCHILY.xattr.user.x": "x" * 60_000})},
    ],
)
async def test_a_job_s_own_words_do_not_make_a_disk_count_as_full(bench: Bench, payload: dict[str, Any]) -> None:
    async with bench.runner():
        _, end = await bench.end(await bench.submit(payload=payload))
        assert (end.status, end.error[-23:]) == ("failed", "no space left on device")
        assert not bench.runners["runner-1"].space.missing()


async def test_a_job_that_cannot_be_opened_shows_no_room_on_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.runner():
        disk = bench.runners["runner-1"].space
        monkeypatch.setattr(space, "PAUSE", 0.0)
        with suppress(EngineError), disk.needed():
            raise EngineError("no space left on device")
        monkeypatch.setattr(space, "PAUSE", 1000.0)
        _, end = await bench.end(await bench.submit(tamper=True))
        assert end.reason == "payload"
        await bench.ends_well(await bench.submit())
        assert not disk.missing()


async def test_a_container_unknown_to_its_watchdog_never_starts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.runner():
        deadlines = bench.runners["runner-1"].deadlines
        put = deadlines.put

        def full(deadline: Deadline, confirmed: float) -> None:
            if deadline.container_id:
                raise StateError("STINT_STATE_DIR: /state cannot be written: No space left on device.")
            put(deadline, confirmed)

        with monkeypatch.context() as patch:
            patch.setattr(deadlines, "put", full)
            job_id = await bench.submit()
            _, end = await bench.end(job_id)
        assert (end.status, end.reason, end.output_complete) == ("failed", "container", True)
        assert end.error.startswith("Run container failed: STINT_STATE_DIR: /state cannot be written")
        await until(lambda: bench.containers(job_id), lambda found: not found)
        await bench.ends_well(await bench.submit())


async def test_a_runner_without_engine_leaves_the_job_to_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "ENGINE_PATIENCE", 0.5)
    monkeypatch.setattr(examine, "ENGINE_PATIENCE", 0.5)
    async with bench.runner("sick", engine=_refusing("find", EngineUnavailableError())):
        job_id = await bench.submit("true")
        async with bench.runner("good"):
            job, _ = await bench.end(job_id)
    assert (job.state, job.runner) == (State.SUCCESS, "good")


async def test_a_job_that_was_given_back_while_all_runners_were_full_is_tried_again_soon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RECONCILE", 0.1)
    is_full = asyncio.Event()

    async def away_while_full(*_: object, **__: object) -> bool:
        monkeypatch.setattr(examine, "cleared", cleared)
        await until_true(lambda: not runner._finder._listens.is_set())  # noqa: SLF001 - nothing else tells
        is_full.set()
        return False

    monkeypatch.setattr(examine, "cleared", away_while_full)
    async with bench.runner(capacity=1) as runner, asyncio.timeout(20):  # less than a lease
        await bench.ends_well(await bench.submit())
    assert is_full.is_set()


async def test_a_runner_whose_engine_hangs_leaves_the_job_to_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, asked = DockerEngine(), asyncio.Event()

    async def find(_labels: Mapping[str, str]) -> NoReturn:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(examine, "ENGINE_SILENCE", 0.5)
    async with bench.runner("sick", engine=hanging):
        monkeypatch.setattr(hanging, "find", find)
        job_id = await bench.submit("true")
        await asked.wait()
        async with bench.runner("good"):
            job, _ = await bench.end(job_id)
    assert (job.state, job.runner) == (State.SUCCESS, "good")


@pytest.mark.parametrize("status", ["204", "404", "408", "503", "100"])
async def test_a_status_header_in_a_message_fools_nobody(bench: Bench, status: str) -> None:
    junk = "a" * 24
    await bench.broker.publish(EventAddress("submitted", TOKEN, junk).subject, b"junk", {"Status": status})
    async with bench.runner():
        good = await bench.submit("true")
        await bench.broker.publish(EventAddress("from_elsewhere", TOKEN, good).subject, b"{}", {"Status": status})
        assert (await bench.until(junk, "rejected")).state is State.FAILED
        await bench.ends_well(good)
    assert [job_id async for job_id in bench.log.job_ids()] == [junk, good]
    assert await rebuild(projector(bench.broker)) == 2


async def test_strange_messages_block_no_queue_and_hide_no_job(bench: Bench) -> None:
    """Too many levels, even in a field that nobody knows; a fact before its submission; a flood of unknown facts."""
    deep, early, flooded = "d" * 24, "b" * 24, await bench.submit("true")
    body = b'{"type":"submitted","unknown":' + b"[" * 5000 + b"]" * 5000 + b"}"
    await bench.broker.publish(EventAddress("submitted", TOKEN, deep).subject, body)
    await bench.log.append(TOKEN, early, started("stranger"))
    for number in range(1100):
        await bench.broker.publish(EventAddress(f"strange{number}", TOKEN, flooded).subject, b"{}")
    async with bench.runner():
        await bench.submit("echo it ran", job_id=early)
        good = await bench.submit("true")
        assert (await bench.until(deep, "rejected")).state is State.FAILED
        rejected = (await bench.until(early, "rejected")).fact(Rejected)
        await bench.ends_well(flooded, good)
    assert rejected is not None
    assert "before its submission" in rejected.error


async def test_a_huge_name_of_an_image_or_a_queue_still_ends_the_job(bench: Bench) -> None:
    async with bench.runner():
        job, end = await bench.end(await bench.submit(payload={"container_image": "x" * 1_200_000}))
        odd, odd_end = await bench.end(await bench.submit(payload={"qname": "a\u0001"}))
        _, other_end = await bench.end(await bench.submit(payload={"qname": "x" * 1_200_000}))
    assert job.state is State.FAILED
    assert len(end.error) <= 4096
    assert (odd.state, odd_end.reason) == (State.FAILED, "payload")
    assert (other_end.reason, len(other_end.error)) == ("payload", 4096)


async def test_a_stream_that_is_gone_does_not_end_a_runner(bench: Bench) -> None:
    async with bench.runner():
        job_id = await bench.running("echo up; sleep 1")
        await bench.broker.api("STREAM.DELETE.WORK")
        job, _ = await bench.end(job_id)
    assert job.state is State.SUCCESS


@pytest.mark.parametrize(("error", "reason"), [(EngineError, "container"), (ZeroDivisionError, "internal")])
async def test_an_unwatchable_job_ends_with_its_container(bench: Bench, error: type[Exception], reason: str) -> None:
    """The engine has lost it, or the runner has a fault."""
    broken = asyncio.Event()

    class Breaking(DockerEngine):
        async def wait(self, _container_id: str) -> Exit:
            await broken.wait()
            raise error

    async with bench.runner(engine=Breaking()):
        job_id = await bench.running("echo up; sleep 600")
        broken.set()
        _, end = await bench.end(job_id)
        assert not await bench.containers(job_id), "gone before its end is told"
    assert (end.status, end.reason, end.output_complete) == ("unknown", reason, False)
    assert (end.chunks, end.output_bytes) == (1, 3)


async def test_leftovers_go_but_no_strangers_and_none_that_cannot(bench: Bench, engine: DockerEngine) -> None:
    """Whoever builds an image chooses its labels, and those of its containers. As a filter `*` is any job."""
    stuck = ""

    class Broken(DockerEngine):
        """It cannot remove the first, nor list its images, as Docker with an image that has lost a layer."""

        async def remove(self, container_id: str) -> None:
            nonlocal stuck
            stuck = stuck or container_id
            if container_id == stuck:
                raise EngineError("The device is busy.")
            await super().remove(container_id)

        async def frozen(self, label: str) -> Collection[str]:
            raise EngineError(label)

        async def discard(self, labels: Mapping[str, str]) -> None:
            raise EngineError(str(labels))

    async with bench.runner():
        job_ids = [await bench.submit(queue=queue) for queue in ("one", "two", "three")]
        await bench.ends_well(*job_ids)
        await bench.settled()
    left = [await bench.container(engine, job_id) for job_id in (*job_ids, "d" * 24, "*")]
    try:
        async with bench.runner(engine=Broken()):
            with pytest.raises(EngineError):
                await bench.leftovers("runner-1").remove()
        found = await engine.find({LABEL_JOB: ""})
        assert sorted({container.container_id for container in found} & {*left}) == sorted([stuck, *left[-2:]])
    finally:
        for container in left:
            await engine.remove(container)


async def test_a_runner_that_fails_at_a_jobs_end_holds_the_queue_until_the_container_is_gone(bench: Bench) -> None:
    broken, ended_before = asyncio.Event(), list[bool]()

    class Breaking(DockerEngine):
        async def wait(self, _container_id: str) -> object:  # type: ignore[override]
            await broken.wait()
            raise EngineError

        async def find(self, labels: Mapping[str, str]) -> Sequence[ContainerInfo]:
            if broken.is_set():
                broken.clear()
                raise ZeroDivisionError
            return await super().find(labels)

        async def remove(self, container_id: str) -> None:
            ended_before.append((await bench.loaded(job_id)).terminal)
            await super().remove(container_id)

    async with bench.runner(engine=Breaking()):
        job_id = await bench.running("echo up; sleep 600")
        broken.set()
        _, end = await bench.end(job_id)
    assert (end.status, end.reason, end.output_complete) == ("unknown", "internal", False)
    assert ended_before[0] is False


@pytest.mark.parametrize("script", ["echo up", "echo up; sleep 1; echo done"])
async def test_a_job_whose_start_was_not_answered_is_what_the_engine_says_it_was(bench: Bench, script: str) -> None:
    class Silent(DockerEngine):
        async def start(self, container_id: str) -> None:
            await super().start(container_id)
            raise EngineUnavailableError

    async with bench.runner(engine=Silent()):
        job, end = await bench.end(await bench.submit(f"{script}; exit 3"))
    assert (job.state, end.reason, end.return_code, end.output_complete) == (State.FAILED, "exit_code", 3, True)
    assert await bench.text(job) == "up\n" + "done\n" * ("done" in script)


async def test_a_job_of_which_the_engine_does_not_say_whether_it_was_started_is_unknown(bench: Bench) -> None:
    async with bench.runner(engine=_refusing("start", EngineUnavailableError())):
        job_id = await bench.submit("echo up")
        job, end = await bench.end(job_id)
        assert not await bench.containers(job_id), "it never starts after its end"
    assert (job.state, end.reason, end.output_complete) == (State.UNKNOWN, "container", False)


async def test_a_connection_that_breaks_before_the_start_is_not_taken_for_the_end_of_the_output(bench: Bench) -> None:
    broken_off = asyncio.Event()

    class Cut(DockerEngine):
        async def attach(self, container_id: str, *, tty: bool) -> AsyncGenerator[OutputPiece, None]:
            pieces = await super().attach(container_id, tty=tty)

            async def ended() -> AsyncGenerator[OutputPiece, None]:
                await pieces.aclose()
                async for piece in pieces:  # none any more
                    yield piece
                broken_off.set()
                raise EngineUnavailableError

            return ended()

        async def start(self, container_id: str) -> None:
            async with asyncio.timeout(10):
                await broken_off.wait()
            await super().start(container_id)

    async with bench.runner(engine=Cut()):
        job, end = await bench.end(await bench.submit("echo up"))
    assert (job.state, end.output_complete, await bench.text(job)) == (State.SUCCESS, False, "up\n")


@pytest.mark.parametrize("event", [ended("unknown"), kill_requested()], ids=lambda event: event.kind)
async def test_no_launch_is_told_behind_an_end(bench: Bench, event: AnyEvent) -> None:
    """Another ends the job between the making of its container and the fact that tells of it."""

    class Overtaken(DockerEngine):
        async def create(self, spec: ContainerSpec) -> str:
            container_id = await super().create(spec)
            await bench.log.append(TOKEN, spec.labels[LABEL_JOB], event)
            return container_id

    async with bench.runner(engine=Overtaken()):
        job_id = await bench.submit("true")
        await bench.end(job_id)
    (stored,) = [[*page] async for page in Stream(bench.broker, EVENTS).counts(event_filter("*", TOKEN, job_id))]
    job = await bench.loaded(job_id)
    assert {parse_event_subject(subject).kind for subject in stored} == set(job.facts), "nothing that does not count"


async def test_a_job_that_makes_the_runner_itself_fail_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.runner(lease=LEASE, takeover=20.0):  # for whose end nothing waits
        opener = bench.runners["runner-1"].opener
        elsewhere = await bench.submit("true", queue="another")

        async def failing(sealed: str, job: Job) -> Ticket:
            if job.job_id == poison_id:
                raise ZeroDivisionError
            return await ticket(sealed, job)

        ticket, poison_id = opener.ticket, "e" * 24
        monkeypatch.setattr(type(opener), "ticket", lambda _self, sealed, job: failing(sealed, job))
        await bench.submit("true", job_id=poison_id)
        good = await bench.submit("true")
        job, ended = await bench.end(poison_id)
        assert (job.state, ended.reason) == (State.FAILED, "internal")
        assert ended.error == "Internal error in the runner: ZeroDivisionError."
        await bench.ends_well(good, elsewhere)
        await bench.settled()


async def test_a_kill_whose_answer_is_lost_is_a_kill(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has exited because of it, when the runner asks again."""
    stop, stops = DockerContainer.stop, 0

    async def silent(container: DockerContainer, **options: Any) -> None:
        nonlocal stops
        stops += 1
        await stop(container, **options)
        if stops == 1:
            raise ServerDisconnectedError

    monkeypatch.setattr(DockerContainer, "stop", silent)
    async with bench.runner():
        job_id = await bench.running("trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done")
        await bench.append_kill(job_id)
        job, end = await bench.end(job_id)
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "killed", 0)
