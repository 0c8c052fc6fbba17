"""Contract, section 0: time and resource limits that a job asks for."""

import asyncio

from tests.api.client import Api, shell_job, until_term
from tests.support.memory_kills import until_told


async def test_a_job_past_its_timeout_also_if_it_ignores_sigterm(api: Api) -> None:
    job = await api.run(until_term("echo stopped; exit 7"), timeout=3)  # by then a busy machine's shell has its trap
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "timeout", 7)
    assert job["output"] == "ready\nstopped\n"
    assert job["error"]
    assert job["kill_requested"] is False
    job = await api.run(until_term(""), timeout=0.3)
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "timeout", 137)


async def test_a_job_within_its_timeout_and_one_that_is_killed_before(api: Api) -> None:
    job = await api.run("echo ok", timeout=30)
    assert (job["status"], job["output"], job["error"]) == ("success", "ok\n", "")
    job_id = await api.submit(until_term(), timeout=30)
    await api.said(job_id)
    await api.kill(job_id)
    assert (await api.ended(job_id))["reason"] == "killed"


CGROUP = "cat /sys/fs/cgroup/{0} 2>/dev/null || cat /sys/fs/cgroup/{1}"
MEMORY = CGROUP.format("memory/memory.limit_in_bytes", "memory.max")
PIDS = CGROUP.format("pids/pids.max", "pids.max")


async def test_memory(api: Api) -> None:
    sizes = (64 * 2**20, "64m", "64M", "65536k")
    for job in await asyncio.gather(*(api.run(MEMORY, memory=size) for size in sizes)):
        assert job["stdout"].strip() == str(64 * 2**20)


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
    """Never without a limit."""
    script = f"{PIDS}; i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i+1)); done; wait"
    job, other = await asyncio.gather(api.run(script, pids=20), api.run(PIDS))
    assert job["stdout"].split()[0] == "20"
    assert "fork" in job["stderr"]
    assert int(other["stdout"]) <= 4096


async def test_network(api: Api) -> None:
    script = "ls /sys/class/net | tr '\\n' ' '"
    none, bridge, default = await asyncio.gather(
        api.run(script, network="none"), api.run(script, network="bridge"), api.run(script)
    )
    assert none["stdout"].split() == ["lo"], none
    assert "eth0" in bridge["stdout"].split(), bridge
    assert "eth0" in default["stdout"].split(), default


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


async def test_a_sealed_job_with_a_limit_and_one_that_makes_no_sense(api: Api) -> None:
    for name, value in {"timeout": -1, "memory": "lots", "network": "host", "pids": -5, "cpus": -1}.items():
        job = await api.run_sealed(shell_job("echo it ran", **{name: value}))
        assert (job["status"], job["reason"], job["stdout"]) == ("failed", "payload", "")
        assert name in job["error"]
    assert (await api.run_sealed(shell_job(PIDS, pids=33)))["stdout"].strip() == "33"
