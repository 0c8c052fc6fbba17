"""Which containers run, which the port to an engine does not tell."""

from collections.abc import Mapping

from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.docker_wire import label_filter


async def running(labels: Mapping[str, str]) -> set[str]:
    """The ids of the containers on this machine's engine with these labels that run now."""
    engine = DockerEngine()
    try:
        client = engine._client()  # noqa: SLF001 - the port does not tell
        return {container.id for container in await client.containers.list(filters=label_filter(labels))}
    finally:
        await engine.close()
