"""Commands about the fleet, on the stack that `stint dev` starts."""

import json

import pytest

from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.soak


async def test_a_doctor_finds_nothing_that_does_not_work(stack: Stack) -> None:
    result = await stack.run("doctor", "--queue", "deploys", "-o", "json")
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [finding for finding in found if finding["verdict"] == "bad"] == []
    assert result.code == 0
    looked_at = {finding["about"] for finding in found if finding["verdict"] == "ok"}
    assert looked_at >= {"settings", "api", "runners", "permissions", "vault", "token", "policies", "nats", "docker"}


async def test_a_runner_is_listed_and_drained(stack: Stack) -> None:
    """It has a job, so that it stays until it is seen to drain. `stint dev` starts it again."""
    job = await stack.submit("echo up; sleep 600", qname="drained")
    await stack.writes(job)
    name = (await stack.get(job))["node_uuid"]
    listed = [json.loads(line) for line in (await stack.run("runners", "-o", "json")).out.splitlines()]
    assert name in {runner["runner"] for runner in listed if runner["alive"]}
    assert (
        await stack.run("drain", name)
    ).out == f"Runner {name} was asked to drain; `stint runners` shows when it does.\n"
    assert (await stack.run("drain", "nobody")).code == 125
    await until(lambda: stack.run("runners"), lambda found: "draining" in found.out)
    await stack.kill(job)
    await stack.end(job)
