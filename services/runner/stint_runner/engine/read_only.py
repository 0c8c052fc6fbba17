"""A read-only root that holds a job's files: Docker lets nobody put files into one, so it is made from an image.

See docs/adr/0011. The image holds the job's secrets. It has no name, bears the labels of the container it was made
from, and is removed with the job's containers.
"""

from collections.abc import Mapping
from http import HTTPStatus

import aiodocker

from stint_runner.engine import docker_wire as wire
from stint_runner.engine.docker_client import ARCHIVE
from stint_runner.engine.docker_errors import engine_errors
from stint_runner.engine.port import ContainerSpec


async def freeze(docker: aiodocker.Docker, container_id: str, spec: ContainerSpec) -> str:
    """See `Engine.freeze`."""
    model = docker.containers.container(container_id)
    with engine_errors():
        image = await model.commit(pause=False, timeout=ARCHIVE)
        config = wire.frozen_config(spec, image_id=image["Id"], model=container_id)
        frozen = await docker.containers.create(config)
        await model.delete(force=True, v=True)
    return frozen.id


async def discard(docker: aiodocker.Docker, labels: Mapping[str, str]) -> None:
    """See `Engine.discard`."""
    with engine_errors():
        images = await docker.images.list(filters=wire.frozen_images(labels))
    for image in images:
        with engine_errors(done={HTTPStatus.NOT_FOUND}):  # somebody else's removal was first
            await docker.images.delete(image["Id"], force=True, noprune=True)  # its parents are others'
