"""A runner on Docker whose jobs can write outside their container: `python -m tests.chaos.docker_runner`."""

import os
import sys
from typing import Any, Final

from stint.core.errors import ImageError
from stint.process import service
from stint.process.settings import RunnerSettings
from stint_runner.__main__ import serve
from stint_runner.engine import docker_wire as wire
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.docker_client import engine_errors
from stint_runner.engine.port import ContainerSpec

TRUTH_DIR: Final = "CHAOS_TRUTH_DIR"
"""The folder on the engine's host."""
TRUTH: Final = "/truth"
"""The same in a container."""


class TruthEngine(DockerEngine):
    """Docker, with the folder of what jobs see in each container."""

    async def create(self, spec: ContainerSpec) -> str:
        config: dict[str, Any] = wire.create_config(spec)
        mounts = config["HostConfig"].setdefault("Mounts", [])
        mounts.append({"Type": "bind", "Source": os.environ[TRUTH_DIR], "Target": TRUTH, "ReadOnly": False})
        with engine_errors(missing=ImageError):
            container = await self._client().containers.create(config)
        return container.id


async def run(settings: RunnerSettings) -> None:
    await serve(settings, lambda settings, *_: TruthEngine.from_settings(settings))


if __name__ == "__main__":
    sys.exit(service.run(RunnerSettings, run))
