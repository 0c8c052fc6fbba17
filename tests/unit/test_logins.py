import asyncio
import base64
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.pretty import pretty_repr
from structlog.testing import capture_logs

from stint.core.errors import ConfigError
from stint.process.environment import setting_names
from stint.process.settings import EngineSettings, RunnerSettings
from stint_runner.engine.docker import DockerEngine
from stint_runner.registry.logins import DockerConfigLogins, LoginError, LoginSource, RegistryLogin

PASSWORD = "correct:horse battery"
LOGIN = RegistryLogin(username="user", password=PASSWORD)
AUTH = base64.b64encode(f"user:{PASSWORD}".encode()).decode()


def configured(folder: Path, config: Mapping[str, Any] | str | bytes) -> DockerConfigLogins:
    text = json.dumps(config) if isinstance(config, Mapping) else config
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return DockerConfigLogins(str(folder), timeout=5)


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A credential helper that notes how it was called."""
    path = folder / "docker-credential-test"
    path.write_text(f'#!/bin/sh\necho "$@" >{folder}/arguments\ncat >{folder}/asked\n{script}\n', encoding="utf-8")
    path.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": AUTH}, LOGIN),
        ({"username": "user", "password": PASSWORD}, LOGIN),
        ({"auth": AUTH, "username": "other", "password": "other"}, LOGIN),
        ({"auth": base64.b64encode(b"user:p\0\0").decode()}, RegistryLogin(username="user", password="p")),
        ({"identitytoken": "t"}, RegistryLogin(identitytoken="t")),
        ({"auth": "dXNlcjo=", "identitytoken": "t"}, RegistryLogin(username="user", identitytoken="t")),
        ({"registrytoken": "t"}, RegistryLogin(registrytoken="t")),
        ({}, None),
        ({"email": "somebody"}, None),
    ],
)
async def test_what_docker_login_writes(tmp_path: Path, entry: dict[str, str], login: RegistryLogin | None) -> None:
    assert await configured(tmp_path, {"auths": {"host:5000": entry}}).login("host:5000") == login


@pytest.mark.parametrize(
    ("key", "registry", "found"),
    [
        ("host:5000", "host:5000", True),
        ("https://host:5000/v2/", "host:5000", True),
        ("http://Host.example/v2/", "host.example", True),
        ("host:5000", "host", False),
        ("host", "host:5000", False),
        ("host:5000", "host:5001", False),
        ("host.example", "host.example.evil", False),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("docker.io", "docker.io", True),
        ("index.docker.io", "docker.io", True),
        ("", "docker.io", False),
    ],
)
async def test_which_registry_an_entry_is_for(tmp_path: Path, key: str, registry: str, found: bool) -> None:
    logins = configured(tmp_path, {"auths": {key: {"auth": AUTH}}})
    assert await logins.login(registry) == (LOGIN if found else None)
    other = {"username": "other", "password": "other"}
    logins = configured(tmp_path, {"auths": {"https://host:5000/v2/": other, "host:5000": {"auth": AUTH}}})
    assert await logins.login("host:5000") == LOGIN, "the very name comes first"


async def test_no_configuration_is_no_login(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        logins = DockerConfigLogins(str(folder))
        logins.check()
        assert await logins.login("host") is None
    logins = DockerConfigLogins(str(tmp_path))
    assert await configured(tmp_path, {"auths": None, "credHelpers": None, "HttpHeaders": {}}).login("host") is None
    configured(tmp_path, {"auths": {"host": {"auth": AUTH}}})
    assert await logins.login("host") == LOGIN, "the file is read again"


DEEP = f'"levels": {"[" * 100_000}{"]" * 100_000}'
NO_CONFIG = ["", "{", "[]", b"\xff\xfe", '{"auths": {"host": 5}}', f'{{"auths": "{PASSWORD}"}}', f"{{{DEEP}}}"]
NO_LOGIN = ["", PASSWORD, f'{{"Username": "{PASSWORD}"}}', f'{{"Username": "user", "Secret": "{PASSWORD}", {DEEP}}}']


@pytest.mark.parametrize("text", NO_CONFIG, ids=range(7))
async def test_what_is_no_configuration(tmp_path: Path, text: str | bytes) -> None:
    logins = configured(tmp_path, text)
    with pytest.raises(ConfigError, match=f"^DOCKER_CONFIG: {tmp_path}/config.json is not") as at_start:
        logins.check()
    with pytest.raises(LoginError, match=r"is not a configuration") as at_a_pull:
        await logins.login("host")
    assert PASSWORD not in f"{at_start.value}{at_a_pull.value}"


async def test_a_configuration_that_nobody_named_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".docker").mkdir()
    configured(tmp_path / ".docker", "{")
    logins = DockerConfigLogins()
    with capture_logs() as logs:
        logins.check()
    assert [entry["event"] for entry in logs] == ["no registry logins"]
    with pytest.raises(LoginError):
        await logins.login("host")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be read \(IsADirectoryError\)"):
        DockerConfigLogins(str(tmp_path)).check()


@pytest.mark.parametrize("auth", ["*secret*", base64.b64encode(b"no colon").decode(), "/////w=="])
async def test_an_entry_that_is_no_login(tmp_path: Path, auth: str) -> None:
    logins = configured(tmp_path, {"auths": {"host": {"auth": auth}}})
    logins.check()
    with pytest.raises(LoginError, match=r"^The login for host in Docker's configuration is not base64") as caught:
        await logins.login("host")
    assert auth not in str(caught.value)


@pytest.mark.parametrize("config", [{"credsStore": "test"}, {"credHelpers": {"host:5000": "test"}, "credsStore": "x"}])
async def test_a_credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    answer = json.dumps({"ServerURL": "host:5000", "Username": "user", "Secret": PASSWORD})
    helper(tmp_path, monkeypatch, f"echo '{answer}'")
    logins = configured(tmp_path, {"auths": {"host:5000": {}}, **config})
    assert await logins.login("host:5000") == LOGIN
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "host:5000"
    assert (tmp_path / "arguments").read_text(encoding="utf-8") == "get\n"


async def test_a_helper_knows_docker_hub_by_its_old_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, """echo '{"Username": "<token>", "Secret": "t"}'""")
    assert await configured(tmp_path, {"credsStore": "test"}).login("docker.io") == RegistryLogin(identitytoken="t")
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "https://index.docker.io/v1/"


async def test_a_helper_that_has_none_is_missing_or_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert await configured(tmp_path, {"credsStore": "test"}).login("host") is None
    with pytest.raises(LoginError, match=r"^docker-credential-none-such cannot be run"):
        await configured(tmp_path, {"credsStore": "none-such"}).login("host")
    for name in ("../../bin/sh", "a b", "-x"):
        with pytest.raises(LoginError, match=r"names a credential helper that cannot be one"):
            await configured(tmp_path, {"credHelpers": {"host": name}}).login("host")


@pytest.mark.parametrize("answer", NO_LOGIN, ids=range(4))
async def test_a_helper_that_answers_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    (tmp_path / "answer").write_text(answer, encoding="utf-8")
    helper(tmp_path, monkeypatch, f"cat {tmp_path}/answer")
    with pytest.raises(LoginError, match=r"^docker-credential-test did not answer as a credential") as caught:
        await configured(tmp_path, {"credsStore": "test"}).login("host")
    assert PASSWORD not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_helper_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    helper(tmp_path, monkeypatch, f"exec 3>{held}; sleep 1000 & wait")
    configured(tmp_path, {"credsStore": "test"})
    # It is opened before the helper begins, which on a busy machine may be ended before it opens it.
    with os.fdopen(os.open(held, os.O_RDONLY | os.O_NONBLOCK), "rb") as until_all_are_gone:
        os.set_blocking(until_all_are_gone.fileno(), True)
        with pytest.raises(LoginError, match=r"^docker-credential-test did not answer within 0.5 s"):
            await DockerConfigLogins(str(tmp_path), timeout=0.5).login("host")
        assert await asyncio.to_thread(until_all_are_gone.read) == b""


async def test_the_first_source_wins() -> None:
    class Given(LoginSource):
        def __init__(self, **logins: RegistryLogin) -> None:
            self.logins = logins

        async def login(self, registry: str) -> RegistryLogin | None:
            return self.logins.get(registry)

    other = RegistryLogin(username="other", password="other")
    engine = DockerEngine(logins=[Given(one=LOGIN), Given(one=other, two=other)])
    found = [await engine._login(name) for name in ("one", "two", "three")]  # noqa: SLF001 - the engine gets it
    assert found == [(LOGIN, []), (other, []), (None, [])]


def test_a_login_shows_itself_to_the_engine_and_to_nobody_else() -> None:
    login = RegistryLogin(username="user", password=PASSWORD, identitytoken="identity", registrytoken="registry")
    shown = f"{login!r} {login} {pretty_repr(login)}"
    assert not any(secret in shown for secret in (PASSWORD, "identity", "registry"))
    sent = json.loads(base64.urlsafe_b64decode(LOGIN.header("host:5000")))
    assert sent == {"username": "user", "password": PASSWORD, "serveraddress": "host:5000"}
    said = f"denied: Basic {AUTH} {PASSWORD}"  # by a registry
    assert LOGIN.hidden_in(said) == "denied: Basic *** ***"
    assert RegistryLogin().hidden_in(said) == said


async def test_a_helper_is_told_none_of_the_runners_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, f'env >{tmp_path}/told\necho \'{{"Username": "user", "Secret": "s"}}\'')
    secret = set(setting_names(RunnerSettings)) - set(setting_names(EngineSettings)) - {"DOCKER_CONFIG"}
    for name in (*secret, *(f"{name}_FILE" for name in secret), "VAULT_TOKEN", "AWS_PROFILE"):
        monkeypatch.setenv(name, "a-value")
    assert await configured(tmp_path, {"credsStore": "test"}).login("host:5000")
    told = {line.partition("=")[0] for line in (tmp_path / "told").read_text(encoding="utf-8").splitlines()}
    assert "AWS_PROFILE" in told
    assert not [name for name in told if name.removesuffix("_FILE") in {*secret, "VAULT_TOKEN"}]
