"""Contract, section 0: time and resource limits that a job asks for."""

import pytest

from tests.api.client import Api, Json, shell, until_term
from tests.support.memory_kills import until_told


async def test_a_job_past_its_timeout(api: Api) -> None:
    job = await api.run(until_term("echo stopped; exit 7"), timeout=0.5)
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "timeout", 7)
    assert job["output"] == "ready\nstopped\n"
    assert job["error"]
    assert job["kill_requested"] is False


async def test_a_job_past_its_timeout_that_ignores_sigterm(api: Api) -> None:
    job = await api.run("trap '' TERM; sleep 600 & while :; do wait; done", timeout=0.3)
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "timeout", 137)


async def test_a_job_within_its_timeout(api: Api) -> None:
    job = await api.run("echo ok", timeout=30)
    assert (job["status"], job["output"], job["error"]) == ("success", "ok\n", "")


async def test_a_kill_before_the_timeout_is_a_kill(api: Api) -> None:
    job_id = await api.submit(until_term(), timeout=30)
    await api.said(job_id)
    await api.kill(job_id)
    assert (await api.ended(job_id))["reason"] == "killed"


CGROUP = "cat /sys/fs/cgroup/{0} 2>/dev/null || cat /sys/fs/cgroup/{1}"
MEMORY = CGROUP.format("memory/memory.limit_in_bytes", "memory.max")
PIDS = CGROUP.format("pids/pids.max", "pids.max")


@pytest.mark.parametrize("memory", [64 * 2**20, "64m", "64M", "65536k"])
async def test_memory(api: Api, memory: int | str) -> None:
    assert (await api.run(MEMORY, memory=memory))["stdout"].strip() == str(64 * 2**20)


async def test_out_of_memory(api: Api) -> None:
    async def told() -> bool:
        job = await api.run(run=["sh", "-c", "exec tail -c 100m /dev/zero"], memory="16m")
        assert (job["status"], job["return_code"]) == ("failed", 137)
        return bool(job["reason"] == "oom")

    await until_told(told)


async def test_processors(api: Api) -> None:
    job = await api.run(CGROUP.format("cpu/cpu.cfs_quota_us", "cpu.max"), cpus=0.5)
    assert job["status"] == "success", job
    assert job["stdout"].split()[0] == "50000"


async def test_processes(api: Api) -> None:
    assert (await api.run(PIDS, pids=20))["stdout"].strip() == "20"
    assert int((await api.run(PIDS))["stdout"]) <= 4096, "never without a limit"
    job = await api.run("i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i+1)); done; wait", pids=20)
    assert "fork" in job["stderr"]


async def test_network(api: Api) -> None:
    interfaces = "ls /sys/class/net | tr '\\n' ' '"
    assert (await api.run(interfaces, network="none"))["stdout"].split() == ["lo"]
    assert "eth0" in (await api.run(interfaces, network="bridge"))["stdout"].split()
    assert "eth0" in (await api.run(interfaces))["stdout"].split()


async def test_a_root_that_cannot_be_written(api: Api) -> None:
    await api.vault.put_secret("limits", {"a": "from-vault"})
    job = await api.run(
        "touch /tmp/x && echo written; cat /secrets.yml; id -un; pwd",
        read_only=True,
        secret_refs=["A@kv/data/limits.a"],
        working_directory="/var",
    )
    assert "written" not in job["stdout"]
    assert "A: from-vault" in job["stdout"]
    assert job["stdout"].endswith("gostint\n/var\n")
    assert (await api.run("touch /tmp/x && echo written"))["stdout"] == "written\n"


@pytest.mark.parametrize(
    "fields", [{"timeout": -1}, {"memory": "lots"}, {"network": "host"}, {"pids": -5}, {"cpus": -1}]
)
async def test_a_sealed_job_with_a_limit_that_makes_no_sense(api: Api, fields: Json) -> None:
    payload = {"qname": "sealed-limits", "container_image": "busybox", "run": shell("echo it ran"), **fields}
    job = await api.ended(await api.taken(await api.sealed(payload)))
    assert (job["status"], job["reason"], job["stdout"]) == ("failed", "payload", "")
    assert next(iter(fields)) in job["error"]


async def test_limits_come_in_either_mode(api: Api) -> None:
    payload = {"qname": "sealed-limits", "container_image": "busybox", "run": shell(PIDS), "pids": 33}
    job = await api.ended(await api.taken(await api.sealed(payload)))
    assert job["stdout"].strip() == "33"
