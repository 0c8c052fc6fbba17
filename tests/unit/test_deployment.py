"""The units for systemd, compose.yaml and the Dockerfile say what the code needs."""

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.pip_conf import pip_conf
from typer import Context
from typer.main import get_command

from stint.cli.app import app
from stint.cli.services.vault_setup import FILES
from stint.process.environment import load, setting_names
from stint.process.settings import ApiSettings, NatsAuthSettings, ProjectorSettings, RunnerSettings, Settings
from stint_runner.__main__ import CLEAN_UP

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
SHAPES: Mapping[str, type[Settings]] = {
    "stint-api": ApiSettings,
    "stint-projector": ProjectorSettings,
    "stint-runner": RunnerSettings,
    "stint-nats-auth": NatsAuthSettings,
}
LOGIN = {"STINT_RUNNER_ROLE_ID": "r", "STINT_RUNNER_SECRET_ID": "s", "STINT_ROLE_ID": "j"}
SPECIFIERS = {"%l": "host", "%m": "0123456789abcdef" * 2, "%S": "/var/lib"}

by_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)


def read(path: Path) -> Mapping[str, Sequence[str]]:
    """The unit's options, each with all its values."""
    options = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            options[name].append(value)
    return options


def environment(unit: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What it sets, as on some machine."""
    pairs = [re.sub("%.", lambda found: SPECIFIERS[found[0]], pair).partition("=") for pair in unit["Environment"]]
    return {name: value for name, _, value in pairs}


@by_unit
def test_it_starts_a_service_and_sets_what_that_reads(path: Path) -> None:
    unit = read(path)
    (command,) = unit["ExecStart"]
    program, service = command.split()
    assert program.endswith("/stint")
    assert service == path.stem.removeprefix("stint-")
    group = get_command(app)
    assert service in group.list_commands(Context(group))  # type: ignore[attr-defined] # a group
    assert environment(unit).keys() <= set(setting_names(SHAPES[path.stem]))
    assert [Path(file).name for file in unit["EnvironmentFile"]] == ["common.env", f"{service}.env"]


@by_unit
def test_it_is_started_again_unless_its_settings_are_wrong(path: Path) -> None:
    unit = read(path)
    assert (unit["Restart"], unit["RestartPreventExitStatus"]) == (["always"], ["2"])
    assert unit["StartLimitIntervalSec"] == ["0"]


@by_unit
def test_systemd_takes_it(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    installed = tmp_path / path.name
    text = path.read_text(encoding="utf-8")
    installed.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")
    assert path.name not in said.stderr


def test_a_runner_has_the_time_to_drain_and_keeps_its_name_its_deadlines_and_its_watchdog() -> None:
    """It is back within its lease; its watchdog outlives it."""
    unit = read(ROOT / "deploy" / "systemd" / "stint-runner.service")
    settings = load(RunnerSettings, environment(unit) | LOGIN)
    assert (unit["KillMode"], unit["OOMPolicy"]) == (["process"], ["continue"])
    assert "CAP_KILL" in unit["AmbientCapabilities"]
    assert (unit["ProtectProc"], unit["PrivatePIDs"]) == ([], [])
    assert int(unit["TimeoutStopSec"][0]) > settings.drain + settings.kill_grace + CLEAN_UP
    assert int(unit["RestartSec"][0]) < settings.lease / 2
    assert settings.runner_id == f"host-{SPECIFIERS['%m']}"
    assert settings.state_dir == f"/var/lib/{unit['StateDirectory'][0]}"
    assert unit["StateDirectoryMode"] == ["0700"]


def test_only_the_runners_user_may_use_the_engine() -> None:
    users = {path.stem: (read(path)["User"], read(path)["DynamicUser"]) for path in UNITS}
    service: tuple[list[str], list[str]] = ([], ["yes"])
    others = {path.stem: service for path in UNITS if path.stem != "stint-runner"}
    assert users == {**others, "stint-runner": (["stint-runner"], [])}


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def default(text: str) -> str:
    """Of `${NAME:-default}`."""
    match = re.fullmatch(r"\$\{\w+:-(.+)\}", text)
    assert match, text
    return match[1]


def test_python_is_the_same_everywhere_and_nothing_is_pulled_to_read_the_dockerfile() -> None:
    python = default(COMPOSE["x-build"]["args"]["PYTHON_IMAGE"])
    assert f"\nARG PYTHON_IMAGE={python}\n" in DOCKERFILE
    assert f"\npublished={python}\n" in (ROOT / "scripts" / "ensure-python-image").read_text(encoding="utf-8")
    assert not re.search(r"^#\s*syntax\s*=", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("service", ["api", "projector", "runner", "nats-auth"])
def test_each_service_is_given_settings_that_it_reads(service: str) -> None:
    given = {name.removesuffix("_FILE") for name in COMPOSE["services"][service]["environment"]}
    assert given
    assert given <= set(setting_names(SHAPES[f"stint-{service}"]))
    secret = {name for name in COMPOSE["services"][service]["environment"] if re.search(r"ROLE_ID|SECRET_ID", name)}
    assert secret == {f"{name}_FILE" for name in FILES.get(service, ())}


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_each_service_is_confined(service: str) -> None:
    described = COMPOSE["services"][service]
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert described["ulimits"] == {"core": 0}
    assert not described.keys() & {"privileged", "user", "cap_add"}
    assert all(port.startswith("127.0.0.1:") for port in described.get("ports", ()))
    assert f"\nFROM service AS {described['build']['target']}\n" in DOCKERFILE
    users = re.findall(r"^\s*USER\s+(.+)$", DOCKERFILE, re.MULTILINE | re.IGNORECASE)
    assert users == ["10001:10001"], "that of `service`"


def test_a_build_is_told_where_packages_come_from_and_no_path_of_this_machine() -> None:
    listed = r"""
global.timeout='60'
global.no-index='true'
:env:.trusted-host='packages.example\nother.example'
:env:.index='/some/wheels'
:env:.timeout='90'
:env:.user='true'
download.proxy='http://proxy.example:3128'
"""
    wanted = ["[global]", "timeout = 90", "no-index = true", "trusted-host = packages.example other.example"]
    assert pip_conf(listed.strip()).splitlines() == wanted
