"""Pulls with and without logins, from a real registry that wants one."""

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stint.core.errors import ConfigError, ImageError
from stint.vault import AppRoleSession, Vault
from stint.vault.setup import service_settings, vault_setup
from stint_runner.engine.docker import DockerEngine
from stint_runner.registry.logins import DockerConfigLogins, LoginSource, RegistryLogin
from stint_runner.registry.vault_logins import VaultLogins
from tests.integration.runner.test_docker_pull import forget
from tests.support.registry import Registry, registry
from tests.support.servers import BaoProcess, running
from tests.support.vault_bench import as_root

USER = "puller"
PASSWORD = "correct horse: battery"
PATH = "kv/data/registries"
AUTH = {"username": USER, "password": PASSWORD}


class Given(LoginSource):
    def __init__(self, username: str = USER, password: str = PASSWORD) -> None:
        self.given = RegistryLogin(username=username, password=password)

    async def login(self, _registry: str) -> RegistryLogin | None:
        return self.given


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    async with registry(tmp_path_factory.mktemp("guarded"), users={USER: PASSWORD, "other": "other"}) as served:
        yield served


@pytest.fixture(scope="module")
async def pushed(guarded: Registry, busybox: str) -> str:
    """The name of an image that nobody gets without a login."""
    return await guarded.push_new(busybox, f"team/{secrets.token_hex(6)}:1")


@pytest.fixture
async def image(pushed: str) -> AsyncIterator[str]:
    """The same, on no engine."""
    yield pushed
    await forget(pushed)


async def pull(image: str, logins: LoginSource) -> None:
    engine = DockerEngine(os.environ.get("DOCKER_HOST", ""), logins=[logins], pull_patience=1)
    try:
        await engine.ensure_image(image, always=False)
    finally:
        await engine.close()


async def test_a_wrong_login_fails_at_once_and_is_not_told(image: str) -> None:
    wrong = "wrong horse"
    with capture_logs() as logs, pytest.raises(ImageError, match="All attempts fail:\n#1: ") as caught:
        await pull(image, Given(password=wrong))
    assert len(str(caught.value).splitlines()) == 2
    told = f"{caught.value} {caught.value!r} {caught.value.__context__!r} {logs}"
    assert wrong not in told
    assert base64.b64encode(f"{USER}:{wrong}".encode()).decode() not in told


async def test_a_broken_configuration_fails_only_what_needs_it(image: str, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    logins = DockerConfigLogins(str(tmp_path))
    with pytest.raises(ImageError, match=r"(?s)no basic auth.*\nPulled without a login: .*is not a configuration"):
        await pull(image, logins)
    async with registry(tmp_path) as free:
        name = await free.push_new(busybox, "free/app")
        await pull(name, logins)
        await forget(name)


@pytest.fixture(scope="module")
async def vault(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["Shelf"]:
    async with running(server := BaoProcess(tmp_path_factory.mktemp("bao"))):
        await vault_setup(server.address, server.root_token, kv_mount="kv", registries=PATH)
        settings, client = await service_settings(server.address, server.root_token), Vault(server.address)
        session = AppRoleSession(client, settings["STINT_RUNNER_ROLE_ID"], settings["STINT_RUNNER_SECRET_ID"])
        yield Shelf(server, client, session)
        await session.close()


@dataclass
class Shelf:
    """The registry logins in a Vault, and a runner's way to them."""

    server: BaoProcess
    client: Vault
    session: AppRoleSession

    async def put(self, **entries: object) -> None:
        await as_root(self.server, lambda client: client.adapter.post(f"/v1/{PATH}", json={"data": entries}))

    def logins(self, path: str = PATH) -> VaultLogins:
        return VaultLogins(self.client, self.session, path)


@pytest.mark.parametrize("form", [AUTH, f"{USER}:{PASSWORD}"])
async def test_from_vault(guarded: Registry, image: str, vault: Shelf, form: object) -> None:
    await vault.put(**{guarded.host: form, "host.example": "other:other"})
    await pull(image, vault.logins())


async def test_what_is_no_login_is_named_and_not_shown(vault: Shelf, image: str) -> None:
    host = image.partition("/")[0]
    wrong = {"username": 5, "password": "s3cret"}
    for entry in ("no-colon-s3cret", 5, wrong, ["s3cret"], {"pass": "s3cret"}):
        await vault.put(**{host: entry})
        with pytest.raises(
            ImageError, match=f"Pulled without a login: What Vault holds for {host} at {PATH}"
        ) as caught:
            await pull(image, vault.logins())
        assert "s3cret" not in str(caught.value)


async def test_a_path_that_the_runner_may_not_read(vault: Shelf, image: str) -> None:
    with pytest.raises(ImageError, match=r"Pulled without a login: The registry logins .* cannot be read: .*403"):
        await pull(image, vault.logins("kv/data/others"))


@pytest.mark.parametrize("path", ["", "kv/../sys"])
async def test_what_is_no_path(path: str) -> None:
    vault = Vault("http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"^STINT_REGISTRY_SECRETS: "):
        VaultLogins(vault, AppRoleSession(vault, "r", "s"), path)


async def test_a_vault_that_is_away_is_waited_for(guarded: Registry, image: str, vault: Shelf) -> None:
    await vault.put(**{guarded.host: AUTH})
    await vault.session.token()
    vault.server.pause()
    pulling = asyncio.create_task(pull(image, vault.logins()))
    done, _ = await asyncio.wait({pulling}, timeout=0.5)
    vault.server.resume()
    assert not done
    await pulling
