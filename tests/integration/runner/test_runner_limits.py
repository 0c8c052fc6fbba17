"""Time-outs, the read-only root, and kills at bad moments. Limits themselves are checked in `tests/api`."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from stint.core.events import Launched
from stint.core.job import State
from stint.core.names.headers import LABEL_JOB, LABEL_READ_ONLY, LABEL_TIMEOUT
from stint.ports import Outcome
from stint_runner.engine.docker import DEFAULT_HOST, DockerEngine
from stint_runner.engine.docker_client import DockerClient
from stint_runner.engine.port import ContainerInfo, ContainerSpec
from tests.api.archive import targz
from tests.api.client import in_steps
from tests.support.containers import running
from tests.support.events import TOKEN, started
from tests.support.outputs import written
from tests.support.runner_bench import Bench
from tests.support.runner_process import RunnerProcess


@pytest.fixture
async def docker() -> AsyncIterator[DockerClient]:
    client = DockerClient(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
    yield client
    await client.close()


@pytest.fixture
async def special(docker: DockerClient, busybox: str) -> AsyncIterator[str]:
    """An image with a command, an environment, a label of its own and a volume that has a file."""
    name = f"stint-limits-test:{uuid.uuid4().hex}"
    made = await docker.containers.create(
        {"Image": busybox, "Cmd": ["sh", "-c", "mkdir -m 777 /data; echo old > /data/old"]}
    )
    await made.start()
    await made.wait()
    changes = ["VOLUME /data", 'CMD ["sh", "-c", "cat /data/*; echo $B $A; touch /data/new && echo yes; sleep 0.15"]']
    await made.commit(repository=name.partition(":")[0], tag=name.partition(":")[2], changes=[*changes, "ENV B=image"])
    await made.delete(force=True, v=True)
    yield name
    await docker.images.delete(name, force=True, noprune=True)


async def _traces(docker: DockerClient, job_id: str) -> tuple[int, int]:
    """How many containers and images a job has."""
    label = {"label": [f"{LABEL_JOB}={job_id}"]}
    containers = await docker.containers.list(all="1", filters=label)
    return len(containers), len(await docker.images.list(all="1", filters=label))


async def _volumes(docker: DockerClient) -> set[str]:
    found = await docker.volumes.list()  # type: ignore[no-untyped-call] # aiodocker's
    return {volume["Name"] for volume in found["Volumes"] or ()}


async def test_what_cannot_be_had_fails_before_anything_is_pulled(bench: Bench) -> None:
    async with bench.runner(job_timeout_max=60):
        job, end, _ = await bench.ended("true", container_image="no-such-registry.invalid/nothing:1", timeout=61)
    assert (job.state, end.reason) == (State.FAILED, "payload")
    assert "STINT_JOB_TIMEOUT_MAX" in end.error


async def test_a_job_runs_with_the_runtime_that_the_settings_name(bench: Bench, docker: DockerClient) -> None:
    async with bench.runner(job_runtime="io.containerd.runc.v2", kill_grace=0.1):
        job_id = await bench.running("echo ready; sleep 60")
        [container] = await bench.containers(job_id)
        inspected = await docker.containers.container(container.container_id).show()
        await bench.append_kill(job_id)
    assert inspected["HostConfig"]["Runtime"] == "io.containerd.runc.v2"


class Ready(DockerEngine):
    """Its containers count as started when they have written something: their traps are set before their time runs."""

    async def start(self, container_id: str) -> None:
        await super().start(container_id)
        async with aclosing(self.output(container_id)) as output:  # type: ignore[type-var] # an async generator
            await anext(output)


async def test_a_job_that_exits_0_at_its_time_out_has_failed(bench: Bench) -> None:
    async with bench.runner(engine=Ready()):
        script = "trap 'exit 0' TERM; echo ready; while true; do sleep 0.05; done"
        job, end, _ = await bench.ended(script, timeout=0.3)
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "timeout", 0)


async def test_a_kill_after_the_time_out_changes_nothing(bench: Bench) -> None:
    async with bench.runner(engine=Ready()):
        script = in_steps("trap 'echo stopping' TERM; echo ready", "exit 0")
        job_id = await bench.submit(script, payload={"timeout": 0.3})
        async with written(bench.output, TOKEN, job_id) as pieces, asyncio.timeout(60):
            while b"stopping" not in (await anext(pieces)).data:
                pass
        (leased,) = bench.dispatchers["runner-1"].jobs.values()
        await bench.append_kill(job_id)
        await leased.killed.wait()
        await bench.go_on(job_id)
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "timeout")


@pytest.mark.parametrize("cause", ["timeout", "kill"])
async def test_a_job_that_ends_by_itself_at_that_moment_is_what_it_was(bench: Bench, cause: str) -> None:
    class Late(DockerEngine):
        """Its containers count as started when they have exited, of which it tells when they are being stopped."""

        def __init__(self) -> None:
            super().__init__()
            self.exited, self.stopping = asyncio.Event(), asyncio.Event()

        async def start(self, container_id: str) -> None:
            await super().start(container_id)
            await super().wait(container_id)
            self.exited.set()

        async def wait(self, container_id: str) -> Any:
            await self.stopping.wait()
            return await super().wait(container_id)

        async def stop(self, container_id: str, grace: float) -> bool:
            self.stopping.set()
            return await super().stop(container_id, grace)

    engine = Late()
    async with bench.runner(engine=engine):
        job_id = await bench.submit("exit 4", payload={"timeout": 0.1 if cause == "timeout" else 60})
        await engine.exited.wait()
        if cause == "kill":
            await bench.append_kill(job_id)
        _, end = await bench.end(job_id)
    assert (end.reason, end.return_code, end.error) == ("exit_code", 4, "")


async def test_the_time_until_the_start_does_not_count_and_the_container_tells_its_time_out(bench: Bench) -> None:
    found: list[ContainerInfo] = []

    class Slow(DockerEngine):
        async def start(self, container_id: str) -> None:
            found.extend(await self.find({}))
            await asyncio.sleep(2.1)  # longer than the time-out
            await super().start(container_id)

    async with bench.runner(engine=Slow()):
        job, _, _ = await bench.ended("sleep 0.3", timeout=2)
    assert job.state is State.SUCCESS
    own = [each for each in found if each.labels.get(LABEL_JOB) == job.job_id]
    assert [float(each.labels[LABEL_TIMEOUT]) for each in own] == [2]


@pytest.mark.soak
@pytest.mark.parametrize("state", ["kept", "lost"])
async def test_a_time_out_goes_on_after_an_adoption(bench: Bench, adopter: RunnerProcess, state: str) -> None:
    """Without the runner's state it counts from the launch in the log, by the clock of the log."""
    long = await bench.running(in_steps("echo up", "exit 0"), queue="long", payload={"timeout": 600})
    short = await bench.running("echo up; sleep 600", queue="short", payload={"timeout": 5})
    await adopter.kill()
    if state == "lost":
        adopter.kill_watchdogs()
        for job_id in (long, short):
            (adopter.state / f"{job_id}.json").unlink()
    async with bench.runner(kill_grace=0.1):
        await bench.go_on(long)
        ends = [(await bench.end(job_id))[1] for job_id in (long, short)]
    assert [end.reason for end in ends] == ["", "timeout"]


async def test_what_is_told_of_a_read_only_job_is_the_container_that_runs(bench: Bench, docker: DockerClient) -> None:
    async with bench.runner(kill_grace=0.1):
        job_id = await bench.running("echo up; sleep 600", payload={"read_only": True, "expose_vault_token": True})
        launched = (await bench.loaded(job_id)).fact(Launched)
        assert launched is not None
        found = await bench.engine().find({LABEL_JOB: job_id})
        assert {each.container_id for each in found} == await running({LABEL_JOB: job_id}) == {launched.container_id}
        [image] = await docker.images.list(filters={"label": [f"{LABEL_JOB}={job_id}"]})
        inspected = await docker.images.inspect(image["Id"])
        assert not [entry for entry in inspected["Config"]["Env"] or () if "VAULT_TOKEN" in entry]
        assert image["RepoTags"] in (None, [])
        await bench.append_kill(job_id)
        await bench.end(job_id)
    assert await _traces(docker, job_id) == (0, 0)


async def test_a_read_only_job_of_an_image_with_its_own_command_and_volume(
    bench: Bench, docker: DockerClient, special: str, tmp_path: Any
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("ca")
    used: set[str] = set()

    class Noting(DockerEngine):
        async def start(self, container_id: str) -> None:
            mounts = (await docker.containers.container(container_id).show())["Mounts"]
            used.update(mount["Name"] for mount in mounts if mount["Type"] == "volume")
            await super().start(container_id)

    async with bench.runner(engine=Noting(), vault_cacert=str(ca)):
        payload = {
            "container_image": special,
            "run": [],
            "content": targz({"data/more": "more\n"}),
            "env_vars": ["A=1"],
        }
        job, end = await bench.end(await bench.submit(payload={**payload, "read_only": True}))
        text = await bench.text(job)
        plain = await bench.text((await bench.end(await bench.submit(payload=payload)))[0])
    assert (job.state, end.error) == (State.SUCCESS, "")
    assert text == plain == "more\nold\nimage 1\nyes\n"
    assert len(used) == 2
    assert not used & await _volumes(docker)


async def test_a_lost_read_only_job_leaves_nothing(bench: Bench, docker: DockerClient, engine: DockerEngine) -> None:
    """Its runner is gone at the worst moment: model, image and container are all there."""
    job_id = await bench.submit(payload={"read_only": True})
    spec = ContainerSpec(
        image=bench.image, labels={LABEL_JOB: job_id, "stint.read-only": "true"}, command=["sleep", "600"]
    )
    model, other = await engine.create(spec), await engine.create(spec)
    frozen = await engine.freeze(model, spec)
    await engine.start(frozen)
    await docker.containers.container(other).commit()
    assert await _traces(docker, job_id) == (2, 2)
    await bench.log.append(TOKEN, job_id, started("runner-1"))
    async with bench.runner("runner-1"):
        job, _ = await bench.end(job_id)
        await bench.settled()
    assert job.state is State.UNKNOWN
    assert await _traces(docker, job_id) == (0, 0)


async def test_an_engine_that_breaks_while_it_freezes(bench: Bench, docker: DockerClient) -> None:
    class Breaking(DockerEngine):
        async def freeze(self, container_id: str, spec: ContainerSpec) -> str:
            await docker.containers.container(container_id).commit(pause=False)
            return await super().freeze("0" * 64, spec)

    async with bench.runner(engine=Breaking()):
        job, end, _ = await bench.ended("true", read_only=True)
    assert (job.state, end.reason) == (State.FAILED, "container")
    assert await _traces(docker, job.job_id) == (0, 0)


async def test_an_image_that_the_engine_finishes_after_the_clean_up_is_removed_by_a_sweep(
    bench: Bench, docker: DockerClient, engine: DockerEngine
) -> None:
    """Docker finishes a commit although its caller has left, and although the container is removed meanwhile."""
    async with bench.runner("runner-1", kill_grace=0.1):
        over, goes_on = await bench.submit(), await bench.running("echo up; sleep 600")
        await bench.end(over)
        for job_id in (over, goes_on, "d" * 24):
            marks = {LABEL_JOB: job_id, LABEL_READ_ONLY: "true"}
            model = await engine.create(ContainerSpec(image=bench.image, labels=marks))
            await docker.containers.container(model).commit(pause=False)
            await engine.remove(model)
        await bench.leftovers("runner-1").remove()
        images = [(await _traces(docker, job_id))[1] for job_id in (over, goes_on, "d" * 24)]
        await engine.discard({LABEL_JOB: "d" * 24})
        await engine.discard({LABEL_JOB: goes_on})
        await bench.append_kill(goes_on)
    assert images == [0, 1, 1], "one of a job that is over; the others are of a running job and of another Stint"


async def test_the_parents_of_a_job_s_image_stay(docker: DockerClient, engine: DockerEngine, busybox: str) -> None:
    """Docker removes parents that have no name along with an image, and they are other people's."""
    made = await docker.containers.create({"Image": busybox, "Cmd": ["true"]})
    nameless = (await made.commit(pause=False, changes=[f"LABEL which={uuid.uuid4().hex}"]))["Id"]
    await made.delete(force=True)
    labels = {LABEL_JOB: uuid.uuid4().hex}
    child = await docker.containers.create({"Image": nameless, "Cmd": ["true"], "Labels": labels})
    await child.commit(pause=False)
    await child.delete(force=True)
    await engine.discard(labels)
    await engine.discard(labels)
    assert await docker.images.inspect(nameless)
    await docker.images.delete(nameless, force=True, noprune=True)


async def test_an_image_named_by_its_id_stays(docker: DockerClient, engine: DockerEngine, busybox: str) -> None:
    model = await docker.containers.create({"Image": busybox, "Cmd": ["true"]})
    image = (await model.commit(pause=False))["Id"]
    await model.delete(force=True)
    labels = {LABEL_JOB: uuid.uuid4().hex}
    made = await docker.containers.create({"Image": image, "Cmd": ["true"], "Labels": labels})
    await engine.discard(labels)
    assert await docker.images.inspect(image)
    await made.delete(force=True)
    await docker.images.delete(image, force=True, noprune=True)


def stopped(call: str, *, after: bool) -> tuple[DockerEngine, asyncio.Event, asyncio.Event]:
    """An engine that stands still before or after this call, an event that tells so, and one that lets it go on."""
    engine, reached, go = DockerEngine(), asyncio.Event(), asyncio.Event()
    real = getattr(engine, call)

    async def standing_still(*arguments: Any, **options: Any) -> Any:
        answer = await real(*arguments, **options) if after else None
        reached.set()
        await go.wait()
        return answer if after else await real(*arguments, **options)

    setattr(engine, call, standing_still)
    return engine, reached, go


MOMENTS = {
    "pulling": ("ensure_image", False),
    "creating": ("create", False),
    "created": ("create", True),
    "filling": ("put_archive", True),
    "freezing": ("freeze", False),
    "frozen": ("freeze", True),
    "starting": ("start", False),
    "started": ("start", True),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_at_each_moment(bench: Bench, docker: DockerClient, moment: str) -> None:
    call, after = MOMENTS[moment]
    engine, reached, go = stopped(call, after=after)
    async with bench.runner(engine=engine, kill_grace=0.1), asyncio.timeout(30):
        payload = {
            "read_only": moment in {"freezing", "frozen"},
            "image_pull_policy": "Always" if moment == "pulling" else "IfNotPresent",
        }
        job_id = await bench.submit("echo it ran; sleep 600", payload=payload)
        await reached.wait()
        assert [await bench.append_kill(job_id) for _ in range(2)] == [Outcome.WON, Outcome.LOST]
        if moment not in {"starting", "started"}:
            job, end = await bench.end(job_id)  # at once, whatever the engine is still at
        go.set()
        job, end = await bench.end(job_id)
        await bench.ends_well(await bench.submit("true"))
    assert (job.state, end.reason) == (State.FAILED, "killed")
    assert await _traces(docker, job_id) == (0, 0)
    if moment not in {"starting", "started"}:
        assert await bench.text(job) == ""
        assert moment == "filling" or Launched.kind not in job.facts
