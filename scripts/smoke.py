"""Runs three jobs on what `make up` started, and checks their ends. `python -m scripts.smoke`.

One is sealed, reads a secret, and is followed. One is killed. The third outlives the stop of its runner, which is
started again. `--env-file` names what `up` wrote.
"""

import asyncio
import base64
import hashlib
import json
import secrets
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from scripts.compose import ContainersError, docker, known, main, parser

from stint.cli.dev.demo_image import BUSYBOX
from stint.cli.run_job import submit
from stint.client.api import Api, LiveEvent, connect
from stint.client.options import RunOptions, endpoints
from stint.core.payload import JobPayload
from stint.core.subjects import LABEL_JOB
from stint.vault import Vault

WITHIN: Final = 120.0
"""Seconds that all of it may take."""
SECRET: Final = "kv/data/smoke"
TELL_SECRET: Final = """\
echo first; until [ -e /tmp/go ]; do sleep 0.1; done
sed -n 's/^PASSWORD: //p' /secrets.yml | tr -d "\\n\\"'" | sha256sum
"""
UNTIL_KILLED: Final = "trap 'exit 0' TERM; echo first; while :; do sleep 0.1; done"
UNTIL_TOLD: Final = "echo first; until [ -e /tmp/go ]; do sleep 0.1; done; echo last"


@dataclass
class Run:
    """A job that was submitted, and its live stream, which is read once."""

    api: Api
    job_id: str
    queue: str
    events: AsyncIterator[LiveEvent]
    output: bytes = field(default=b"", init=False)

    async def until_output(self) -> None:
        """Wait for its first output."""
        async for event in self.events:
            if event.name == "output":
                self.output += base64.b64decode(event.data["data"])
                return
        raise ContainersError(f"The job in the queue {self.queue} ended before it wrote anything.")

    async def until_end(self) -> None:
        """Follow it to its end."""
        async for event in self.events:
            if event.name == "output":
                self.output += base64.b64decode(event.data["data"])

    async def expect(self, **wanted: Any) -> Mapping[str, Any]:
        """The job as it stands, which must be so."""
        job = await self.api.get(self.job_id)
        found = {name: job[name] for name in wanted}
        if found != wanted:
            raise ContainersError(
                f"The job in the queue {self.queue} should be {wanted}, and is {found}: {job['error']}"
            )
        return job

    async def go(self) -> None:
        """Tell its container to go on."""
        ids = (await docker("ps", "--quiet", "--filter", f"label={LABEL_JOB}={self.job_id}")).split()
        if len(ids) != 1:
            raise ContainersError(f"The job in the queue {self.queue} has {len(ids)} containers.")
        await docker("exec", ids[0], "touch", "/tmp/go")  # noqa: S108 - in the container


async def smoke(options: Namespace) -> str:
    """Returns what was done."""
    env = known(options.env_file)
    if "STINT_URL" not in env:
        raise ContainersError(f"There is no {options.env_file}: run make up first.")
    began = time.monotonic()
    async with asyncio.timeout(WITHIN), connect(endpoints(env)) as api:
        await sealed(api, env)
        await killed(api, env)
        runner = await stopped(api, env)
    return (
        "a sealed job read its secret and was followed, a second was killed, a third went on to its end while its "
        f"runner {runner} was stopped, which is up again; {time.monotonic() - began:.0f} s"
    )


async def submitted(api: Api, env: Mapping[str, str], queue: str, script: str, *refs: str, image: str = BUSYBOX) -> Run:
    """A sealed job."""
    job = JobPayload(qname=queue, container_image=image, run=("sh", "-c", script), secret_refs=refs)
    job_id = await submit(RunOptions(endpoints=endpoints(env), job=job, role=env["STINT_ROLE"]), api)
    return Run(api, job_id, queue, api.events(job_id))


async def sealed(api: Api, env: Mapping[str, str]) -> None:
    """A job is followed while it runs, and reads its secret."""
    value, vault, path = f"smoke-{secrets.token_hex(8)}", Vault(env["VAULT_ADDR"]), f"/v1/{SECRET}"
    kept = {"data": {"password": value}}
    await vault.call(env["VAULT_TOKEN"], lambda client: client.adapter.post(path, json=kept))
    run = await submitted(api, env, "smoke-sealed", TELL_SECRET, f"PASSWORD@{SECRET}.password")
    await run.until_output()
    await run.expect(status="running")
    await run.go()
    await run.until_end()
    await run.expect(status="success", return_code=0, output_complete=True)
    if hashlib.sha256(value.encode()).hexdigest().encode() not in run.output:
        raise ContainersError("The sealed job did not find the secret that stands in Vault.")


async def killed(api: Api, env: Mapping[str, str]) -> None:
    """A job ends because somebody says so."""
    run = await submitted(api, env, "smoke-killed", UNTIL_KILLED)
    await run.until_output()
    await api.kill(run.job_id)
    await run.until_end()
    await run.expect(status="failed", reason="killed", kill_requested=True)


async def stopped(api: Api, env: Mapping[str, str]) -> str:
    """A job goes on to its end while its runner is stopped, and no longer. Returns the runner's name."""
    run = await submitted(api, env, "smoke-stopped", UNTIL_TOLD)
    await run.until_output()
    runner = str((await run.expect(status="running"))["node_uuid"])
    began = now()
    stopping = asyncio.create_task(docker("stop", runner))
    try:
        await until_logged(runner, "draining", since=began)
        await run.expect(status="running", node_uuid=runner)
        await run.go()
        await run.until_end()
    finally:
        await asyncio.gather(stopping, return_exceptions=True)
        code = (await docker("inspect", "--format", "{{.State.ExitCode}}", runner)).strip()
        began = now()
        await docker("start", runner)
    if code != "0":
        raise ContainersError(f"The runner {runner} was stopped and ended with {code}.")
    await run.expect(status="success", return_code=0, output="first\nlast\n", output_complete=True, node_uuid=runner)
    await until_logged(runner, "runner ready", since=began)
    return runner


def now() -> str:
    """As `docker logs --since` takes it."""
    return datetime.now(UTC).isoformat()


async def until_logged(container: str, event: str, *, since: str) -> Mapping[str, Any]:
    """Wait until a service has said so in its log; returns the line."""
    following = await asyncio.create_subprocess_exec(
        *("docker", "logs", "--follow", "--since", since, container),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    if following.stderr is None:
        raise ContainersError
    try:
        async for line in following.stderr:
            said: Mapping[str, Any] = json.loads(line) if line.startswith(b"{") else {}
            if said.get("event") == event:
                return said
    finally:
        if following.returncode is None:
            following.kill()
        await following.wait()
    raise ContainersError(f"{container} ended without saying {event!r}.")


if __name__ == "__main__":
    arguments = parser(__doc__)
    sys.exit(main("smoke", lambda: smoke(arguments.parse_args())))
