"""The images' health check, beside a service whose settings are spelt in every way that the service takes."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from stint.cli.services.health import url
from tests.support.api_bench import ApiProcess, service_environ
from tests.support.ports import free_port
from tests.support.servers import NatsProcess, OpenBao, running
from tests.support.stack import STINT, finished
from tests.support.waiting import until

GIVEN = {"STINT_API_ROLE_ID": "a", "STINT_API_SECRET_ID": "b"}


async def check(service: str, environ: Mapping[str, str]) -> tuple[int | None, str]:
    ended = await finished(STINT, "health", service, env=environ)
    return ended.code, ended.out.strip()


def in_files(folder: Path, values: Mapping[str, str]) -> dict[str, str]:
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    return {f"{name}_FILE": str(folder / name) for name in values}


async def test_an_api_with_the_settings_of_gostint_and_in_files_is_healthy(
    nats_process: NatsProcess, openbao: OpenBao, certificates: Path, tmp_path: Path
) -> None:
    environ = await service_environ(nats_process.url, openbao)
    for name in ("cert", "key"):
        environ[f"GOSTINT_SSL_{name.upper()}"] = str(certificates / f"server-{name}.pem")
    port = free_port()
    environ |= in_files(tmp_path, {"STINT_PORT": str(port), "STINT_HOST": "127.0.0.1"})
    process = ApiProcess(tmp_path / "api", environ=environ, ca=str(certificates / "ca.pem"))
    async with running(process), asyncio.timeout(60):
        await until(lambda: check("api", environ), lambda found: found == (0, ""))
        # It is for the others' port, and compose gives the same settings to all.
        assert await check("api", environ | {"STINT_HEALTH_PORT": str(free_port())}) == (0, "")
        await nats_process.kill()
        await until(lambda: check("api", environ), lambda found: found == (1, "NATS is not reachable."))
    code, said = await check("api", environ)
    assert (code, "refused" in said) == (1, True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "http://127.0.0.1:3232/readyz"),
        ({"GOSTINT_PORT": "4000", "STINT_HOST": "0.0.0.0"}, "http://127.0.0.1:4000/readyz"),  # noqa: S104 - a text
        ({"GOSTINT_SSL_CERT": "c", "GOSTINT_SSL_KEY": "k"}, "https://127.0.0.1:3232/readyz"),
        ({"STINT_HOST": "::"}, "http://[::1]:3232/readyz"),
        ({"STINT_HOST": "fd00::5"}, "http://[fd00::5]:3232/readyz"),
        ({"STINT_HOST": "192.0.2.5"}, "http://192.0.2.5:3232/readyz"),
        ({"STINT_HOST": "stint.example"}, "http://stint.example:3232/readyz"),
    ],
)
def test_where_an_api_is_asked(settings: dict[str, str], expected: str) -> None:
    assert url("api", GIVEN | settings) == expected


async def test_the_others_are_asked_on_their_health_port_and_a_free_port_is_read_from_its_report(
    tmp_path: Path,
) -> None:
    assert url("runner", {"STINT_HEALTH_PORT": "8080"}) == "http://127.0.0.1:8080/readyz"
    assert url("projector", in_files(tmp_path, {"STINT_HEALTH_PORT": "9"})) == "http://127.0.0.1:9/readyz"
    assert await check("runner", {}) == (1, "STINT_HEALTH_PORT: the health check must know the port.")
    code, said = await check("api", {**GIVEN, "STINT_PORT": "x"})
    assert (code, said[:11]) == (1, "STINT_PORT:")
    (tmp_path / "port").write_text("4711\n")
    settings = GIVEN | {"STINT_PORT": "0", "STINT_PORT_REPORT": str(tmp_path / "port")}
    assert url("api", settings) == "http://127.0.0.1:4711/readyz"
