"""What `pip install stint-jobs[EXTRA]` gives: the wheel in an empty environment, for each extra."""

import os
import pwd
import re
import sys
from pathlib import Path

import pytest

from tests.support.documents import blocks
from tests.support.stack import Result, finished

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.soak, pytest.mark.timeout(240)]  # the first one fetches wheels

CLIENT = "client"
"""Without an extra."""
OF_SERVICES = {"nats", "uvicorn", "starlette", "fastapi", "prometheus_client", "aiodocker", "yaml"}
HAS = {
    CLIENT: set[str](),
    "nats": {"nats"},
    "api": {"nats", "uvicorn", "starlette", "fastapi", "prometheus_client"},
    "runner": {"nats", "uvicorn", "starlette", "aiodocker", "yaml"},
    "projector": {"nats", "uvicorn", "starlette"},
    "nats-auth": {"nats", "uvicorn", "starlette"},
    "dev": OF_SERVICES,
}
"""Which of these modules each extra brings."""
SERVICES = {"api", "runner", "projector", "nats-auth"}
RUNS = {
    CLIENT: set[str](),
    "nats": set[str](),
    "api": {"api", "projector", "nats-auth"},
    "runner": {"runner", "projector", "nats-auth"},
    "projector": {"projector", "nats-auth"},
    "nats-auth": {"projector", "nats-auth"},
    "dev": {*SERVICES, "dev"},
}
"""Which of the commands that need an extra each of them can run."""
FIND = "import importlib.util as u, sys; print(*[name for name in sys.argv[1:] if u.find_spec(name)])"
IMPORT = """\
import importlib, pkgutil, sys, stint
for package in ("core", "ports", "vault", "client", "cli"):
    room = importlib.import_module(f"stint.{package}")
    for module in pkgutil.walk_packages(getattr(room, "__path__", ()), f"{room.__name__}."):
        importlib.import_module(module.name)
import stint.process.settings, stint.process.env_file, stint.process.logs
"""


async def run(*command: str | Path, **env: str) -> Result:
    return await finished(*command, env={"PATH": os.defpath, **env})


async def pip(*arguments: str | Path) -> None:
    """With its user's HOME, where pip is configured and keeps its cache."""
    env = {**os.environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}
    done = await finished(sys.executable, "-m", "pip", *arguments, env=env, seconds=600)
    assert done.code == 0, done


@pytest.fixture(scope="module")
async def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this checkout, and of each library the version that is tested."""
    folder = tmp_path_factory.mktemp("wheels")
    own = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    built = await finished(*own, cwd=ROOT)
    assert built.code == 0, built
    only_wheels = ("--only-binary", ":all:", "--no-binary", "nkeys")  # which has none
    locked = ("--require-hashes", "--no-deps", "--requirement", ROOT / "requirements" / "dev.txt")
    await pip("wheel", "--quiet", "--wheel-dir", folder, *only_wheels, *locked)
    return folder


async def installed(target: str, wheels: Path, folder: Path) -> Path:
    """The programs of a new environment in which nothing else is installed."""
    made = await run(sys.executable, "-m", "venv", "--without-pip", folder)
    assert made.code == 0, made
    python = ("--python", folder / "bin" / "python")
    await pip(*python, "install", "--quiet", "--no-compile", "--no-index", "-f", wheels, target)
    return folder / "bin"


@pytest.mark.parametrize("extra", HAS)
async def test_an_extra_is_all_that_its_programs_need(extra: str, wheels: Path, tmp_path: Path) -> None:
    bin_folder = await installed("stint-jobs" if extra == CLIENT else f"stint-jobs[{extra}]", wheels, tmp_path)

    found = await run(bin_folder / "python", "-I", "-c", FIND, *sorted(OF_SERVICES))
    assert set(found.out.split()) == HAS[extra]
    imported = await run(bin_folder / "python", "-I", "-W", "error", "-c", IMPORT)
    assert imported == Result(0, "", "")
    for arguments in ("--help", "run --help", *(f"{name} --help" for name in sorted(RUNS[extra]))):
        helped = await run(bin_folder / "stint", *arguments.split())
        assert (helped.code, helped.err) == (0, ""), arguments

    for service in sorted(RUNS[extra] & SERVICES):
        started = await run(bin_folder / "stint", service, STINT_HEALTH_PORT="none")
        assert (started.code, started.err[:24]) == (2, "stint: STINT_HEALTH_PORT"), "it has all that it imports"
    for command in sorted(RUNS["dev"] - RUNS[extra]):
        refused = await run(bin_folder / "stint", command)
        sentence = rf"stint {command}: \w+ is not installed: pip install 'stint-jobs\[{command}\]'\.\n"
        assert refused.code == 2
        assert re.fullmatch(sentence, refused.err), refused.err


async def test_programs_that_use_the_library_are_checked_against_its_types(wheels: Path, tmp_path: Path) -> None:
    """The guide's programs, with nothing installed but the wheel."""
    bin_folder = await installed("stint-jobs", wheels, tmp_path)
    (folder := tmp_path / "programs").mkdir()
    programs = blocks((ROOT / "docs" / "guides" / "python.md").read_text(encoding="utf-8"), "python")
    for number, program in enumerate(programs):
        (folder / f"program_{number}.py").write_text(program, encoding="utf-8")
    strict = ("--strict", "--python-executable", bin_folder / "python", "--cache-dir", tmp_path / "cache")
    checked = await run(sys.executable, "-m", "mypy", "--config-file", os.devnull, *strict, folder)
    assert (checked.code, checked.out) == (0, f"Success: no issues found in {len(programs)} source files\n"), checked
