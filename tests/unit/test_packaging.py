import importlib
import importlib.metadata
import platform
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from stint import __version__

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
PACKAGES = {"stint", "stint_api", "stint_runner", "stint_projector"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def test_the_wheel_holds_every_file_of_every_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    folders = [ROOT / folder for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    files = [(folder, path) for folder in folders for path in folder.rglob("*.*") if path.suffix != ".pyc"]
    shipped = {str(path.relative_to(folder.parent)) for folder, path in files}
    assert {Path(name).suffix for name in shipped} >= {".py", ".html", ".js", ".css"}
    assert shipped <= set(names)


@pytest.mark.parametrize("room", ["client", "jetstream", "ports", "process.settings", "publisher", "testing", "vault"])
def test_what_a_room_exports_is_there(room: str) -> None:
    module = importlib.import_module(f"stint.{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_the_changelog_tells_of_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## (Unreleased: {re.escape(__version__)}|{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\))$"
    assert re.search(heading, changelog, re.MULTILINE)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("extra", ["client", *sorted(EXTRAS.keys() - {"docs", "nats"})])
def test_requirements_satisfy_their_extra(extra: str, python: str) -> None:
    pins = _pins(extra, python)
    wanted = [Requirement(line) for line in [*PROJECT["project"]["dependencies"], *_flat(extra)]]
    assert [str(need) for need in wanted if not _satisfied(need, pins)] == []


def test_requirements_for_tests_can_build_the_project() -> None:
    pins = _pins("test", "3.11")
    for line in [*PROJECT["build-system"]["requires"], "editables"]:
        assert _satisfied(Requirement(line), pins)


def test_requirements_agree_with_each_other() -> None:
    newest = _pins("test", "3.12")
    for path in (ROOT / "requirements").glob("*.txt"):
        pins = _pins(path.stem, "3.12")
        if path.stem == "peers":  # in an environment of their own, but Stint's packages are the same there
            pins = {name: version for name, version in pins.items() if name in newest}
        assert pins
        assert pins.items() <= newest.items(), path.name


def test_every_requirement_has_a_hash_and_no_file_an_address() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        pinned = [block for block in text.replace("\\\n", " ").splitlines() if block and not block.startswith("#")]
        assert [block for block in pinned if "--hash=sha256:" not in block] == []


def test_what_is_installed_is_what_is_pinned() -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("only .venv is made from the requirements")
    for name, version in _pins("test", platform.python_version()).items():
        assert importlib.metadata.version(name) == str(version)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("--index" + "-url x", 1),
        ("pip install --find" + "-links y", 1),
        ("https://files.python" + "hosted.org/x", 1),
        ("registry.npm" + "js.org", 1),
        ("a simple line", 0),
    ],
)
def test_addresses_are_found(tmp_path: Path, line: str, status: int) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "file.txt").write_text(line, encoding="utf-8")
    check = subprocess.run([ROOT / "scripts" / "check-addresses", tmp_path], check=False, capture_output=True)
    assert check.returncode == status


def _flat(extra: str) -> Iterator[str]:
    """The extra's requirements, with those of the extras it names."""
    for line in EXTRAS.get(extra, ()):  # a client has none
        need = Requirement(line)
        if need.name == "stint-jobs":
            for other in sorted(need.extras):
                yield from _flat(other)
        else:
            yield line


def _pins(name: str, python: str) -> dict[str, Version]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line.rstrip("\\ ") for line in text.splitlines() if line[:1].isalnum()]
    needs = [Requirement(line) for line in lines]
    full = python if python.count(".") > 1 else f"{python}.0"
    environment = {"python_version": ".".join(full.split(".")[:2]), "python_full_version": full}
    return {
        canonicalize_name(need.name): Version(next(iter(need.specifier)).version)
        for need in needs
        if need.marker is None or need.marker.evaluate(environment)
    }


def _satisfied(need: Requirement, pins: dict[str, Version]) -> bool:
    version = pins.get(canonicalize_name(need.name))
    return version is not None and need.specifier.contains(version, prereleases=True)
