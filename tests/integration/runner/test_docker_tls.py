"""An engine that asks for certificates, which are made as Docker's documentation says."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stint.core.errors import ConfigError, EngineError, EngineUnavailableError
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.docker_client import tls_context
from tests.support.certificates import authority, certificate, openssl
from tests.support.ports import free_port
from tests.support.second_engine import second_engine


@dataclass(frozen=True)
class Guarded:
    """An engine's address, and a folder with the certificates that open it."""

    port: int
    folder: Path

    @property
    def host(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
async def guarded(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    port, files = free_port(), {"--tlscacert": "ca.pem", "--tlscert": "server-cert.pem", "--tlskey": "server-key.pem"}
    options = [f"{option}={certificates / name}" for option, name in files.items()]
    address = f"--host=tcp://127.0.0.1:{port}"
    async with second_engine(tmp_path_factory.mktemp("guarded"), address, "--tlsverify", *options):
        yield Guarded(port, certificates)


def copied(guarded: Guarded, folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(guarded.folder / name, folder)
    return folder


async def ask(host: str, cert_path: Path | str, *, verify: bool = True) -> str:
    engine = DockerEngine(host, ssl_context=tls_context(host, cert_path=str(cert_path), verify=verify))
    try:
        return str((await engine.info())["engine_id"])
    finally:
        await engine.close()


@pytest.mark.parametrize("verify", [True, False])
async def test_with_a_certificate(guarded: Guarded, verify: bool) -> None:
    assert await ask(guarded.host, guarded.folder, verify=verify)
    assert await ask(guarded.host.replace("tcp", "https"), guarded.folder, verify=verify)


async def test_the_folder_of_dockers_client(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(guarded, tmp_path / ".docker", "ca.pem", "cert.pem", "key.pem")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert await ask(guarded.host, "")


async def test_without_a_certificate(guarded: Guarded, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError):
        await ask(guarded.host, copied(guarded, tmp_path / "ca", "ca.pem"))
    plain = DockerEngine(guarded.host)
    with pytest.raises(Exception, match=r".+") as caught:
        await plain.info()
    assert type(caught.value).__module__ == "stint.core.errors"
    await plain.close()


async def test_an_engine_of_another_authority_or_name(guarded: Guarded, tmp_path: Path) -> None:
    folder = authority(tmp_path / "other")
    certificate(folder, "", "extendedKeyUsage = clientAuth\n")
    with pytest.raises(EngineUnavailableError):
        await ask(guarded.host, folder)
    with pytest.raises(EngineUnavailableError):
        await ask(f"tcp://localhost:{guarded.port}", guarded.folder)


@pytest.mark.parametrize("names", [(), ("cert.pem", "key.pem"), ("ca.pem", "cert.pem"), ("ca.pem", "key.pem")])
def test_files_that_are_missing(guarded: Guarded, tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = copied(guarded, tmp_path / "some", *names)
    with pytest.raises(ConfigError, match=f"^DOCKER_CERT_PATH: no usable ca.pem, cert.pem and key.pem in {folder}"):
        tls_context(guarded.host, cert_path=str(folder))


def test_files_that_are_something_else(guarded: Guarded, tmp_path: Path) -> None:
    folder = copied(guarded, tmp_path / "some", "ca.pem", "cert.pem", "key.pem")
    openssl(folder, "rsa", "-aes256", "-passout", "pass:secret", "-in", "key.pem", "-out", "key.pem")
    with pytest.raises(ConfigError, match=r"^DOCKER_CERT_PATH: "):
        tls_context(guarded.host, cert_path=str(folder))
    (folder / "ca.pem").write_text("nothing", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^DOCKER_CERT_PATH: "):
        tls_context(guarded.host, cert_path=str(folder))


@pytest.mark.parametrize("host", ["", "unix:///var/run/docker.sock", "http://127.0.0.1:2375"])
def test_where_tls_is_not_meant(host: str) -> None:
    assert tls_context(host, cert_path="/nowhere", verify=True) is None
    assert tls_context("tcp://127.0.0.1:2375") is None


@pytest.mark.parametrize(("version", "spoken"), [("1.43", True), ("v1.43", True), ("", True), ("9.99", False)])
async def test_a_version_of_the_engines_api(guarded: Guarded, version: str, spoken: bool) -> None:
    context = tls_context(guarded.host, cert_path=str(guarded.folder))
    engine = DockerEngine(guarded.host, ssl_context=context, api_version=version)
    with contextlib.nullcontext() if spoken else pytest.raises(EngineError, match=r"9\.99 is too new"):
        assert await engine.info()
    await engine.close()
