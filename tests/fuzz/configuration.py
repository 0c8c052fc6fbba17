"""Settings, environment files, and the options of `stint nats-config`."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import typer

from stint.core.errors import ConfigError
from stint.natsauth.command import nats_config
from stint.process.env_file import read_env_file, write_env_file
from stint.process.environment import load
from stint.process.settings import ApiSettings, RunnerSettings
from tests.fuzz.target import MARK, Target, refused_well
from tests.support.servers import NATS


def check(data: bytes, _servers: Any) -> None:
    """Each line is a setting or an option. What is wrong is named without its value; what is written is read again."""
    pairs = [line.partition("=")[::2] for line in data.decode("utf-8", "replace").split("\n")]
    environ = {name: value for name, value in pairs if name and MARK not in name and "\0" not in value}
    for shape in (ApiSettings, RunnerSettings):
        with refused_well(ConfigError):
            load(shape, environ)
    with tempfile.TemporaryDirectory() as folder:
        with refused_well(ConfigError):
            write_env_file(Path(folder) / "env", environ)
            assert read_env_file(Path(folder) / "env") == environ
        _check_nats_config(Path(folder) / "nats", environ)


def _check_nats_config(folder: Path, environ: dict[str, str]) -> None:
    """A publisher's name and queues never make a configuration that the server refuses, or one with other rights."""
    publishers = [f"{name}={value}" for name, value in environ.items()]
    try:
        nats_config(folder=folder, publisher=publishers)
    except typer.Exit:
        return
    checked = subprocess.run([NATS, "-t", "-c", folder / "nats.conf"], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


WORDS = [b"STINT_PORT=", b"_FILE=/", b"\n", b"=", b"'", b'"', b"$(id)", b"\xe2\x80\xa8", b",", b"\\", b"}", b"#"]
TARGET = Target(name="configuration", check=check, words=WORDS, brief=20)
