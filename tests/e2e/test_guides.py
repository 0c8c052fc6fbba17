"""On the stack of `stint dev`: each program of the guides to Python and to NATS, and `stint doctor`."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.documents import blocks
from tests.support.stack import Stack, finished

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PROGRAMS = blocks((GUIDES / "python.md").read_text(encoding="utf-8"), "python")
PUBLISHER = blocks((GUIDES / "nats.md").read_text(encoding="utf-8"), "python")[0]
SAYS = {0: "1\nblue\nsuccess 0\n"}
"""What a program prints, by its place in the guide."""

pytestmark = pytest.mark.soak


async def executed(*command: str | Path, cwd: Path, env: dict[str, str]) -> str:
    """What this Python program prints. It must succeed."""
    ended = await finished(sys.executable, "-W", "error", *command, cwd=cwd, env={"PATH": os.environ["PATH"], **env})
    assert ended.code == 0, ended.err
    return ended.out


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
async def test_a_program_of_the_guide_runs(stack: Stack, tmp_path: Path, number: int) -> None:
    program = tmp_path / "test_program.py"
    program.write_text(PROGRAMS[number], encoding="utf-8")
    command = (
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio") if "def test_" in PROGRAMS[number] else ()
    )
    assert SAYS.get(number, "") in await executed(*command, program, cwd=tmp_path, env=stack.env)


@pytest.mark.parametrize("login", ["key", "token"])
async def test_the_publisher_of_the_guide_to_nats_runs(stack: Stack, tmp_path: Path, login: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PUBLISHER, encoding="utf-8")
    key = stack.data_dir / "nats" / "publishers" / "dev" / "STINT_NATS_NKEY"
    env = stack.env | {"STINT_NATS_NKEY_FILE": str(key), "STINT_NATS_INBOX_PREFIX": "_INBOX.dev"}
    if login == "token":
        env = {name: value for name, value in stack.env.items() if name != "STINT_NATS_NKEY_FILE"}
        env |= {"STINT_NATS_USER": "deploys", "STINT_NATS_PASSWORD": stack.env["VAULT_TOKEN"]}
    assert "b'hello\\n'\n" in await executed(program, cwd=tmp_path, env=env)


async def test_a_doctor_finds_nothing_that_does_not_work(stack: Stack) -> None:
    result = await stack.run("doctor", "--queue", "deploys", "-o", "json")
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [finding for finding in found if finding["verdict"] == "bad"] == []
    assert result.code == 0
    looked_at = {finding["about"] for finding in found if finding["verdict"] == "ok"}
    assert looked_at >= {"settings", "api", "runners", "permissions", "vault", "token", "policies", "nats", "docker"}
