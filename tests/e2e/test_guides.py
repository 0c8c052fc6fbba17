"""The guide to the Python library: each of its programs runs, on the stack that `stint dev` starts."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, dev
from tests.support.documents import blocks

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "python.md"
PROGRAMS = blocks(GUIDE.read_text(encoding="utf-8"), "python")
SAYS = {0: "1\nblue\nsuccess 0\n"}
"""What a program prints, by its place in the guide."""

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory, busybox: str) -> AsyncIterator[Stack]:
    assert busybox
    async with dev(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
async def test_a_program_of_the_guide_runs(stack: Stack, tmp_path: Path, number: int) -> None:
    program = tmp_path / "test_program.py"
    program.write_text(PROGRAMS[number], encoding="utf-8")
    command = (
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio") if "def test_" in PROGRAMS[number] else ()
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", *command, program),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **stack.env},
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert SAYS.get(number, "") in out.decode()
