"""Limits, the time-out, hardening and the read-only root, on real NATS, Vault and Docker."""

import asyncio
import base64
import io
import os
import tarfile
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stint.core.events import Ended, Launched
from stint.core.job import Job, State
from stint.core.limits import LimitPolicy, Limits
from stint.core.subjects import LABEL_JOB, LABEL_TIMEOUT, queue_token
from stint.jetstream import Broker
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.docker_client import DEFAULT_HOST, DockerClient
from stint_runner.engine.port import ContainerInfo, ContainerSpec
from tests.support.containers import OpenBao
from tests.support.events import kill_requested, started
from tests.support.memory_kills import until_told
from tests.support.outputs import written
from tests.support.runner_bench import PASSWORD, Bench, make_bench

TOKEN = queue_token("deploys")
NO_DEFAULTS = Limits()


@pytest.fixture
async def bench(broker: Broker, openbao: OpenBao, busybox: str) -> Bench:
    return await make_bench(broker, openbao, busybox)


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
    changes = [
        "VOLUME /data",
        'CMD ["sh", "-c", "cat /data/*; echo $B $A; touch /data/new && echo writable"]',
    ]
    await made.commit(repository=name.partition(":")[0], tag=name.partition(":")[2], changes=[*changes, "ENV B=image"])
    await made.delete(force=True, v=True)
    yield name
    await docker.images.delete(name, force=True, noprune=True)


async def _run(bench: Bench, script: str, **payload: Any) -> tuple[Job, Ended, str]:
    """A job from its submission to its end, and its output."""
    job, end = await bench.end(await bench.submit(script, payload=payload))
    return job, end, await bench.text(job)


async def _traces(docker: DockerClient, job_id: str) -> tuple[int, int]:
    """How many containers and images a job has."""
    label = {"label": [f"{LABEL_JOB}={job_id}"]}
    containers = await docker.containers.list(all="1", filters=label)
    return len(containers), len(await docker.images.list(all="1", filters=label))


async def _volumes(docker: DockerClient) -> set[str]:
    found = await docker.volumes.list()  # type: ignore[no-untyped-call] # aiodocker's
    return {volume["Name"] for volume in found["Volumes"] or ()}


async def _up(bench: Bench, job_id: str) -> None:
    """Until its first output."""
    async with written(bench.output, TOKEN, job_id) as tail, asyncio.timeout(30):
        await anext(tail)


async def _kill(bench: Bench, job_id: str) -> str:
    return (await bench.log.append(TOKEN, job_id, kill_requested())).value


def _content(**files: str) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path.replace("__", "/"))
            entry.size, entry.mode, entry.uid = len(text), 0o666, 2001
            archive.addfile(entry, io.BytesIO(text.encode()))
    return "targz," + base64.b64encode(buffer.getvalue()).decode()


# --- limits -----------------------------------------------------------------------------------------------------

FIGURES = (
    "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null;"
    "cat pids.max pids/pids.max 2>/dev/null; cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null; true"
)
"""What the kernel was told, with either version of its control groups."""


async def test_limits_reach_the_kernel(bench: Bench) -> None:
    async with bench.runner():
        job, end, text = await _run(bench, FIGURES, memory="64m", pids=77, cpus=0.5)
    assert job.state is State.SUCCESS, end
    assert text.split()[:3] == [str(64 * 2**20), "77", "50000"]


async def test_more_processors_than_there_are_limit_nothing(bench: Bench) -> None:
    async with bench.runner():
        assert (await _run(bench, "true", cpus=10_000))[0].state is State.SUCCESS


async def test_a_job_out_of_memory(bench: Bench) -> None:
    async def told() -> bool:
        job, end = await bench.end(await bench.submit(payload={"run": ["tail", "/dev/zero"], "memory": "16m"}))
        assert (job.state, end.return_code) == (State.FAILED, 137)
        return end.reason == "oom"

    async with bench.runner():
        await until_told(told)


async def test_a_job_that_forks_too_much(bench: Bench) -> None:
    async with bench.runner(limits=LimitPolicy(defaults=Limits(pids=5))):
        _, end, text = await _run(bench, "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo not here")
    assert end.return_code != 0
    assert "fork" in text
    assert "not here" not in text


async def test_no_network(bench: Bench) -> None:
    async with bench.runner():
        assert (await _run(bench, "ls /sys/class/net", network="none"))[2].split() == ["lo"]
        assert "eth0" in (await _run(bench, "ls /sys/class/net"))[2]


OVER: dict[str, tuple[LimitPolicy, dict[str, object], str]] = {
    "timeout": (LimitPolicy(maxima=Limits(timeout=60)), {"timeout": 61}, "STINT_JOB_TIMEOUT_MAX"),
    "memory": (LimitPolicy(maxima=Limits(memory=2**20 * 64)), {"memory": "65m"}, "STINT_JOB_MEMORY_MAX"),
    "network": (LimitPolicy(network="none", networks=()), {"network": "bridge"}, "STINT_JOB_NETWORKS"),
    "implausible": (LimitPolicy(), {"cpus": -1}, "cpus must be"),
    "unreadable": (LimitPolicy(), {"memory": "lots"}, "memory must be"),
}


@pytest.mark.parametrize("name", OVER)
async def test_what_cannot_be_had_fails_before_anything_is_pulled(bench: Bench, name: str) -> None:
    policy, payload, words = OVER[name]
    async with bench.runner(limits=policy):
        image = {"container_image": "no-such-registry.invalid/nothing:1"}
        job, end = await bench.end(await bench.submit(payload={**image, **payload}))
    assert (job.state, end.reason) == (State.FAILED, "payload")
    assert words in end.error


async def test_compat_hardens_nothing_and_yet_limits_what_it_is_asked_to(bench: Bench) -> None:
    script = f"grep NoNewPrivs /proc/self/status; {FIGURES}"
    async with bench.runner(compat="gostint", limits=LimitPolicy(defaults=NO_DEFAULTS)):
        plain = (await _run(bench, script))[2].split()
        asked = (await _run(bench, script, pids=50))[2].split()
    assert plain[:2] == asked[:2] == ["NoNewPrivs:", "0"]
    assert "50" not in plain
    assert "50" in asked


# --- output -----------------------------------------------------------------------------------------------------


async def test_output_over_the_limit_is_cut_while_the_job_goes_on(bench: Bench) -> None:
    async with bench.runner(output_limit=1000):
        job, end, text = await _run(bench, "head -c 5000 /dev/zero | tr '\\0' x; sleep 0.3; exit 3")
        short, short_end, _ = await _run(bench, "head -c 1000 /dev/zero")
    assert (job.state, end.return_code, end.output_truncated, end.output_complete) == (State.FAILED, 3, True, True)
    assert text.startswith("x" * 1000 + "\n[output truncated")
    assert end.output_bytes == len(text) < 1100
    assert (short.state, short_end.output_truncated, short_end.output_bytes) == (State.SUCCESS, False, 1000)


async def test_secrets_are_masked_where_the_job_asks_for_it(bench: Bench) -> None:
    script = "cat /secrets.yml; echo $VAULT_TOKEN; printf 'correct horse '; sleep 0.3; echo 'battery staple'"
    payload = {"secret_refs": ["PASSWORD@kv/data/demo.password"], "expose_vault_token": True}
    async with bench.runner():
        _, masked, text = await _run(bench, script, mask_secrets=True, **payload)
        _, plain, clear = await _run(bench, script, **payload)
    assert text.splitlines()[2:] == ["PASSWORD: ***", "TOKEN: ***", "***", "***"]
    assert (masked.output_masked, masked.output_bytes) == (4, len(text))
    assert plain.output_masked == 0
    assert clear.count(PASSWORD) == 2


# --- the time-out -----------------------------------------------------------------------------------------------


async def test_a_job_past_its_time_out_is_stopped_and_its_output_kept(bench: Bench, docker: DockerClient) -> None:
    script = "trap 'echo stopping; exit 7' TERM; echo up; while true; do sleep 0.05; done"
    async with bench.runner(kill_grace=5.0):
        job, end, text = await _run(bench, script, timeout=0.5)
        following, _, _ = await _run(bench, "true")
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "timeout", 7)
    assert end.error == "The job ran for longer than its time-out of 0.5 seconds."
    assert text == "up\nstopping\n"
    assert following.state is State.SUCCESS
    assert await _traces(docker, job.job_id) == (0, 0)


async def test_a_job_that_ignores_its_time_out_is_killed(bench: Bench) -> None:
    async with bench.runner(kill_grace=0.5, limits=LimitPolicy(defaults=Limits(timeout=0.3))):
        job, end, text = await _run(bench, "trap 'echo no' TERM; echo up; while true; do sleep 0.05; done")
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "timeout", 137)
    assert text == "up\nno\n"


async def test_a_job_that_exits_0_at_its_time_out_has_failed(bench: Bench) -> None:
    async with bench.runner():
        job, end, _ = await _run(bench, "trap 'exit 0' TERM; while true; do sleep 0.05; done", timeout=0.3)
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "timeout", 0)


async def test_a_job_within_its_time_out(bench: Bench) -> None:
    async with bench.runner():
        job, end, _ = await _run(bench, "true", timeout=60)
    assert (job.state, end.reason, end.error) == (State.SUCCESS, "", "")


async def test_a_kill_before_the_time_out_stays_a_kill(bench: Bench) -> None:
    async with bench.runner(kill_grace=3.0):
        job_id = await bench.submit("trap '' TERM; echo up; while true; do sleep 0.05; done", payload={"timeout": 2})
        await _up(bench, job_id)
        await _kill(bench, job_id)  # the time is over while the grace is not
        job, end = await bench.end(job_id)
    assert (job.state, end.reason, end.error) == (State.FAILED, "killed", "")


async def test_a_kill_after_the_time_out_changes_nothing(bench: Bench) -> None:
    async with bench.runner(kill_grace=1.0):
        script = "trap 'echo stopping' TERM; while true; do sleep 0.05; done"
        job_id = await bench.submit(script, payload={"timeout": 0.3})
        await _up(bench, job_id)
        await _kill(bench, job_id)
        job, end = await bench.end(job_id)
    assert (job.state, end.reason) == (State.FAILED, "timeout")


@pytest.mark.parametrize("cause", ["timeout", "kill"])
async def test_a_job_that_ends_by_itself_at_that_moment_is_what_it_was(bench: Bench, cause: str) -> None:
    class Late(DockerEngine):
        """Tells of an exit only when the container is being stopped."""

        def __init__(self) -> None:
            super().__init__()
            self.exited, self.stopping = asyncio.Event(), asyncio.Event()

        async def wait(self, container_id: str) -> Any:
            ended = await super().wait(container_id)
            self.exited.set()
            await self.stopping.wait()
            return ended

        async def stop(self, container_id: str, grace: float) -> bool:
            self.stopping.set()
            return await super().stop(container_id, grace)

    engine = Late()
    async with bench.runner(engine=engine):
        job_id = await bench.submit("sleep 0.05; exit 4", payload={"timeout": 2 if cause == "timeout" else 60})
        await engine.exited.wait()
        if cause == "kill":
            await _kill(bench, job_id)
        _, end = await bench.end(job_id)
    assert (end.reason, end.return_code, end.error) == ("exit_code", 4, "")


async def test_the_time_until_the_start_does_not_count_and_the_container_tells_its_time_out(bench: Bench) -> None:
    found: list[ContainerInfo] = []

    class Slow(DockerEngine):
        async def start(self, container_id: str) -> None:
            found.extend(await self.find({}))
            await asyncio.sleep(1.0)  # longer than the time-out
            await super().start(container_id)

    async with bench.runner(engine=Slow()):
        job, _, _ = await _run(bench, "true", timeout=0.9)
    assert job.state is State.SUCCESS
    own = [each for each in found if each.labels.get(LABEL_JOB) == job.job_id]
    assert [float(each.labels[LABEL_TIMEOUT]) for each in own] == [0.9]


# --- the read-only root -----------------------------------------------------------------------------------------


async def test_a_read_only_job_has_its_files_and_can_write_nowhere(bench: Bench, docker: DockerClient) -> None:
    script = (
        "id -un; echo $HOME; cat /secrets.yml /demo; stat -c '%a %u' /secrets.yml; echo $A;"
        "for f in /tmp/x /demo /secrets.yml /var/x; do (echo x > $f) 2>&1 | grep -c Read-only; done;"
        "chmod 777 /secrets.yml 2>&1 | grep -c Read-only; echo x > /dev/shm/x && echo shm"
    )
    async with bench.runner():
        job, end, text = await _run(
            bench,
            script,
            read_only=True,
            secret_refs=["PASSWORD@kv/data/demo.password"],
            content=_content(demo="hello\n"),
            env_vars=["A=1"],
        )
        launched = job.fact(Launched)
    assert (job.state, end.error) == (State.SUCCESS, "")
    assert text.splitlines() == [
        "gostint", "/tmp", "---", "# gostint vault secrets injected:", f"PASSWORD: {PASSWORD}",  # noqa: S108 - the home
        "hello", "400 2001", "1", "1", "1", "1", "1", "1", "shm",
    ]  # fmt: skip
    assert launched is not None
    assert await _traces(docker, job.job_id) == (0, 0)


async def test_what_is_told_of_a_read_only_job_is_the_container_that_runs(bench: Bench, docker: DockerClient) -> None:
    async with bench.runner(kill_grace=0.1):
        job_id = await bench.submit("echo up; sleep 600", payload={"read_only": True, "expose_vault_token": True})
        await _up(bench, job_id)
        job = await bench.log.load(job_id)
        launched = job.fact(Launched) if job else None
        assert launched is not None
        found = await bench.engine().find({LABEL_JOB: job_id})
        assert [(each.container_id, each.running) for each in found] == [(launched.container_id, True)]
        [image] = await docker.images.list(filters={"label": [f"{LABEL_JOB}={job_id}"]})
        inspected = await docker.images.inspect(image["Id"])
        assert not [entry for entry in inspected["Config"]["Env"] or () if "VAULT_TOKEN" in entry]
        assert image["RepoTags"] in (None, [])
        await _kill(bench, job_id)
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
        payload = {"container_image": special, "run": [], "content": _content(data__more="more\n"), "env_vars": ["A=1"]}
        job, end = await bench.end(await bench.submit(payload={**payload, "read_only": True}))
        text = await bench.text(job)
        plain = await bench.text((await bench.end(await bench.submit(payload=payload)))[0])
    assert (job.state, end.error) == (State.SUCCESS, "")
    assert text == plain == "more\nold\nimage 1\nwritable\n"
    assert len(used) == 2
    assert not used & await _volumes(docker)


async def test_a_read_only_job_on_a_terminal(bench: Bench) -> None:
    async with bench.runner():
        _, end, text = await _run(bench, "tty", tty=True, read_only=True, entrypoint=["sh", "-c"], run=["tty"])
    assert (end.reason, text) == ("", "/dev/pts/0\r\n")


async def test_a_lost_read_only_job_leaves_nothing(bench: Bench, docker: DockerClient) -> None:
    """Its runner is gone at the worst moment: model, image and container are all there."""
    job_id = await bench.submit(payload={"read_only": True})
    engine = DockerEngine()
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
    await engine.close()


async def test_an_engine_that_breaks_while_it_freezes(bench: Bench, docker: DockerClient) -> None:
    class Breaking(DockerEngine):
        async def freeze(self, container_id: str, spec: ContainerSpec) -> str:
            await docker.containers.container(container_id).commit(pause=False)
            return await super().freeze("0" * 64, spec)

    async with bench.runner(engine=Breaking()):
        job, end, _ = await _run(bench, "true", read_only=True)
    assert (job.state, end.reason) == (State.FAILED, "container")
    assert await _traces(docker, job.job_id) == (0, 0)


async def test_the_parents_of_a_job_s_image_stay(docker: DockerClient, busybox: str) -> None:
    """Docker removes parents that have no name along with an image, and they are other people's."""
    made = await docker.containers.create({"Image": busybox, "Cmd": ["true"]})
    nameless = (await made.commit(pause=False, changes=[f"LABEL which={uuid.uuid4().hex}"]))["Id"]
    await made.delete(force=True)
    engine = DockerEngine()
    labels = {LABEL_JOB: uuid.uuid4().hex}
    child = await docker.containers.create({"Image": nameless, "Cmd": ["true"], "Labels": labels})
    await child.commit(pause=False)
    await child.delete(force=True)
    await engine.discard(labels)
    await engine.discard(labels)
    assert await docker.images.inspect(nameless)
    await docker.images.delete(nameless, force=True, noprune=True)
    await engine.close()


# --- kills ------------------------------------------------------------------------------------------------------


class Gate:
    """Stops a runner at one moment of a job's life, until the test lets it go on or the runner breaks it off."""

    def __init__(self, moment: str) -> None:
        self.moment = moment
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def pass_(self, moment: str) -> None:
        if moment == self.moment:
            self.reached.set()
            await self.go.wait()


class Gated(DockerEngine):
    """An engine with gates before and after what it does."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    async def ensure_image(self, image: str, *, always: bool) -> None:
        await self.gate.pass_("pulling")
        await super().ensure_image(image, always=always)

    async def create(self, spec: ContainerSpec) -> str:
        await self.gate.pass_("creating")
        container_id = await super().create(spec)
        await self.gate.pass_("created")
        return container_id

    async def put_archive(self, container_id: str, archive: bytes) -> None:
        await super().put_archive(container_id, archive)
        await self.gate.pass_("filling")

    async def freeze(self, container_id: str, spec: ContainerSpec) -> str:
        await self.gate.pass_("freezing")
        frozen = await super().freeze(container_id, spec)
        await self.gate.pass_("frozen")
        return frozen

    async def start(self, container_id: str) -> None:
        await self.gate.pass_("starting")
        await super().start(container_id)
        await self.gate.pass_("started")

    async def stop(self, container_id: str, grace: float) -> bool:
        await self.gate.pass_("stopping")
        return await super().stop(container_id, grace)


MOMENTS = ["pulling", "creating", "created", "filling", "freezing", "frozen", "starting", "started"]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_at_each_moment(bench: Bench, docker: DockerClient, moment: str) -> None:
    gate = Gate(moment)
    async with bench.runner(engine=Gated(gate), kill_grace=0.1), asyncio.timeout(30):
        job_id = await bench.submit("echo it ran; sleep 600", payload={"read_only": moment in {"freezing", "frozen"}})
        await gate.reached.wait()
        assert [await _kill(bench, job_id), await _kill(bench, job_id)] == ["won", "lost"]
        if moment not in {"starting", "started"}:
            job, end = await bench.end(job_id)  # at once, whatever the engine is still at
        gate.go.set()
        job, end = await bench.end(job_id)
        good, _, _ = await _run(bench, "true")
    assert (job.state, end.reason) == (State.FAILED, "killed")
    assert good.state is State.SUCCESS
    assert await _traces(docker, job_id) == (0, 0)
    if moment not in {"starting", "started"}:
        assert await bench.text(job) == ""
        assert (Launched.kind in job.facts) is False


async def test_a_second_kill_while_the_job_is_being_stopped(bench: Bench) -> None:
    gate = Gate("stopping")
    async with bench.runner(engine=Gated(gate), kill_grace=0.1), asyncio.timeout(30):
        job_id = await bench.submit("echo up; sleep 600")
        await _up(bench, job_id)
        assert await _kill(bench, job_id) == "won"
        await gate.reached.wait()
        assert await _kill(bench, job_id) == "lost"
        gate.go.set()
        job, end = await bench.end(job_id)
        assert await _kill(bench, job_id) == "lost"
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "killed", 137)
