"""An engine that keeps its images in containerd's store: `{"features": {"containerd-snapshotter": true}}`."""

import json
import secrets
from pathlib import Path

import pytest
from aiodocker import Docker, DockerError

from stint.core.names.headers import LABEL_JOB, LABEL_READ_ONLY
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerSpec
from stint_runner.engine.removal import remove_containers
from tests.support.registry import registry
from tests.support.second_engine import second_engine


async def test_a_read_only_jobs_image_goes_though_the_engine_does_not_list_it(tmp_path: Path, busybox: str) -> None:
    """Docker 26 does not list an image whose layer it did not pull, as it had that unpacked from another image."""
    config, job_id = tmp_path / "daemon.json", secrets.token_hex(12)
    config.write_text(json.dumps({"features": {"containerd-snapshotter": True}}), encoding="utf-8")
    async with registry(tmp_path) as shelf, second_engine(tmp_path, "--config-file", str(config)) as server:
        pushed = await shelf.push_new(busybox, "team/app:1")
        await server.load(busybox)
        engine = DockerEngine(server.host)
        spec = ContainerSpec(image=pushed, labels={LABEL_JOB: job_id, LABEL_READ_ONLY: "true"}, network="none")
        async with Docker(url=server.host) as docker:
            await engine.ensure_image(pushed, always=False)
            frozen = await engine.freeze(await engine.create(spec), spec)
            image = (await docker.containers.container(frozen).show())["Image"]
            assert await remove_containers(engine, job_id) == 1
            with pytest.raises(DockerError, match="No such image"):
                await docker.images.inspect(image)
            assert await docker.images.inspect(pushed)
        await engine.close()
