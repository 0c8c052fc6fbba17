"""Which images go, and when: on real engines, with a real registry, and records in a real NATS."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiodocker import Docker, DockerError

from stint.core.errors import EngineError
from stint.core.job import State
from stint.core.names.headers import LABEL_JOB, LABEL_READ_ONLY
from stint.core.names.streams import IMAGES_BUCKET, image_key, kv_stream
from stint.core.names.subjects import kv_subject
from stint.jetstream import Broker, Bucket
from stint.jetstream.wire.protocol import raw_message
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerSpec
from stint_runner.engine.removal import remove_containers
from stint_runner.housekeeping.image_keeper import FORGOTTEN_AFTER, ImageKeeper, ImageRecord, image_record
from tests.support.brokers import connected
from tests.support.registry import Registry, mirrored_engine, registry
from tests.support.runner_bench import make_bench
from tests.support.second_engine import second_engine
from tests.support.servers import NatsProcess, OpenBao
from tests.support.waiting import meanwhile

HOST = os.environ.get("DOCKER_HOST", "")
DAY = 24 * 3600.0


@dataclass
class House:
    """An engine, its keeper with a clock of the test's own, and what the test has to clear away."""

    broker: Broker
    engine: DockerEngine = field(default_factory=lambda: DockerEngine(HOST))
    docker: Docker = field(default_factory=Docker)
    clock: list[float] = field(default_factory=lambda: [1e9])
    names: list[str] = field(default_factory=list)
    engines: list[DockerEngine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = self.another_keeper(self.engine)

    def another_keeper(self, engine: DockerEngine) -> ImageKeeper:
        """As of another runner, whose engine is closed with the house."""
        self.engines.append(engine)
        keeper = ImageKeeper(self.broker, engine, retention=DAY, now=lambda: self.clock[0])
        engine.tell_of_images(keeper.used)
        return keeper

    async def use(self, image: str, *, always: bool = False) -> str:
        """Have an image, as a job does; returns its id."""
        await self.engine.ensure_image(image, always=always)
        if image.startswith("127.0.0.1:"):
            self.names.append(image)
        return await self.id_of(image)

    async def id_of(self, image: str) -> str:
        return str((await self.docker.images.inspect(image))["Id"])

    async def tags(self) -> set[str]:
        return {tag for image in await self.docker.images.list() for tag in image["RepoTags"] or ()}

    async def close(self) -> None:
        for name in set(self.names) & await self.tags():
            await self.docker.images.delete(name, force=True)
        await self.docker.close()
        for engine in self.engines:
            await engine.close()

    async def later(self, seconds: float) -> list[str]:
        self.clock[0] += seconds
        return await self.keeper.sweep()

    async def record(self, image_id: str) -> ImageRecord | None:
        key = image_key(await id_of_engine(self.engine), image_id)
        entry = await Bucket(self.broker, IMAGES_BUCKET).read(key)
        return image_record(entry.value) if entry else None


async def id_of_engine(engine: DockerEngine) -> str:
    return str((await engine.info())["engine_id"])


@pytest.fixture
async def house(broker: Broker) -> AsyncIterator[House]:
    house = House(broker)
    yield house
    await house.close()


@pytest.fixture
async def image(shelf: Registry, busybox: str) -> str:
    """The name of an image that is on no engine."""
    return await shelf.push_new(busybox, f"team/{secrets.token_hex(6)}:1")


async def test_it_goes_a_day_after_its_last_use(house: House, image: str) -> None:
    image_id = await house.use(image)
    assert await house.later(DAY - 1) == []
    await house.use(image)
    assert await house.later(DAY - 1) == []
    assert await house.later(1) == [image_id]
    assert image_id not in await house.engine.images()
    assert await house.record(image_id) is None
    assert await house.later(DAY) == []
    assert await house.use(image) == image_id
    assert await house.later(DAY) == [image_id], "pulled again, it is Stint's again"


async def test_what_was_there_before_is_never_removed(house: House, shelf: Registry, busybox: str, image: str) -> None:
    known = await shelf.push(busybox, f"team/{secrets.token_hex(6)}:1")
    await house.docker.images.pull(image)
    for name in (busybox, known, image):
        await house.use(name)
        await house.use(name, always=name != busybox)
    assert await house.later(100 * DAY) == []
    assert {busybox, known, image} <= await house.tags()


async def test_an_image_in_use_stays_whole(house: House, image: str) -> None:
    image_id = await house.use(image)
    container = await house.engine.create(ContainerSpec(image=image, network="none"))
    try:
        assert await house.later(3 * DAY) == []
        assert image in await house.tags()
    finally:
        await house.engine.remove(container)
    assert await house.later(DAY - 1) == [], "its use has only just ended"
    assert await house.later(2) == [image_id]


async def test_a_container_that_appears_at_the_last_moment(house: House, image: str) -> None:
    """The list of what is in use is already read."""
    image_id = await house.use(image)
    container = ""

    class Late(DockerEngine):
        async def remove_image(self, image_id: str, names: Collection[str]) -> bool:
            nonlocal container
            container = await self.create(ContainerSpec(image=image, network="none"))
            return await super().remove_image(image_id, names)

    engine = Late(HOST)
    keeper = house.another_keeper(engine)
    house.clock[0] += DAY
    try:
        assert await keeper.sweep() == []
        assert image in await house.tags()
    finally:
        await engine.remove(container)
    assert await house.later(DAY) == [image_id]


async def test_an_image_that_somebody_named_stays_whole(house: House, image: str) -> None:
    image_id = await house.use(image)
    await house.docker.images.tag(image, "stint-test/somebody-elses", tag="1")
    assert await house.later(DAY) == []
    assert {image, "stint-test/somebody-elses:1"} <= await house.tags()
    await house.docker.images.delete("stint-test/somebody-elses:1")
    assert await house.later(DAY) == [image_id]


async def test_an_image_with_a_child_stays(house: House, image: str) -> None:
    image_id = await house.use(image)
    container = await house.docker.containers.create({"Image": image, "Cmd": ["true"]})
    child = await house.docker.images.docker._query_json(  # noqa: SLF001 - aiodocker's commit wants a name
        "commit", "POST", params={"container": container.id}
    )
    await container.delete()
    assert await house.later(DAY) == []
    assert image in await house.tags()
    await house.docker.images.delete(child["Id"])
    assert await house.later(DAY) == [image_id]


async def test_all_names_that_runners_pulled_it_by_go(house: House, shelf: Registry, image: str) -> None:
    image_id = await house.use(image)
    path = image.partition("/")[2]
    second, third = await shelf.push(image, f"{path}-again"), await shelf.push(image, "team/other:1")
    other = DockerEngine(HOST)
    house.another_keeper(other)
    await other.ensure_image(second, always=False)
    await other.ensure_image(f"{third.removesuffix(':1')}@{await shelf.digest('team/other:1')}", always=False)
    house.names += [second, third]
    assert await house.id_of(second) == image_id
    assert await house.later(DAY) == [image_id]
    assert image_id not in await house.engine.images()


async def test_an_image_whose_tag_has_moved(house: House, shelf: Registry, busybox: str, image: str) -> None:
    first = await house.use(image)
    await shelf.push_new(busybox, image.partition("/")[2])
    house.clock[0] += DAY
    second = await house.use(image, always=True)
    assert first != second
    assert await house.keeper.sweep() == [first]
    assert image in await house.tags()
    assert await house.later(DAY) == [second]


async def test_an_image_that_somebody_removed_is_forgotten(house: House, image: str) -> None:
    image_id = await house.use(image)
    await house.docker.images.delete(image)
    assert await house.later(0) == []
    assert await house.record(image_id) is None
    await house.docker.images.pull(image)
    await house.use(image)
    assert await house.later(10 * DAY) == [], "now it is theirs"
    assert image in await house.tags()


async def test_each_engine_has_its_own_images(house: House, image: str, tmp_path: Path) -> None:
    """The same image, on one engine Stint's, on the other somebody's."""
    async with registry(tmp_path) as mirror, mirrored_engine(tmp_path, mirror) as host:
        second = DockerEngine(host)
        keeper = house.another_keeper(second)
        await second.ensure_image(image, always=False)
        await house.docker.images.pull(image)
        image_id = await house.use(image)
        assert await id_of_engine(second) != await id_of_engine(house.engine)
        assert await house.later(DAY) == []
        assert await keeper.sweep() == [image_id]
        assert image in await house.tags()


async def test_runners_of_one_engine_sweep_at_the_same_time(house: House, shelf: Registry, busybox: str) -> None:
    images = [await shelf.push_new(busybox, f"team/{secrets.token_hex(6)}:1") for _ in range(3)]
    ids = {await house.use(image) for image in images}
    others = [DockerEngine(HOST) for _ in range(2)]
    keepers = [house.keeper, *(house.another_keeper(engine) for engine in others)]
    house.clock[0] += DAY
    removed = await asyncio.gather(*(keeper.sweep() for keeper in keepers))
    assert {image_id for each in removed for image_id in each} == ids
    assert not ids & set(await house.engine.images())
    await house.keeper.sweep()  # one that found an image going has kept its record
    assert [await house.record(image_id) for image_id in ids] == [None] * 3


async def test_uses_at_the_same_time_are_all_kept(house: House, shelf: Registry, image: str) -> None:
    image_id = await house.use(image)
    names = [await shelf.push(image, f"team/{secrets.token_hex(6)}:1") for _ in range(4)]
    await asyncio.gather(*(house.use(name) for name in names))
    record = await house.record(image_id)
    assert record is not None
    assert set(record.names) == {image, *names}
    assert await house.later(DAY) == [image_id]


async def test_a_job_that_comes_while_its_image_goes(
    broker: Broker, openbao: OpenBao, busybox: str, house: House, image: str, tmp_path: Path
) -> None:
    bench = await make_bench(broker, openbao, busybox, tmp_path)
    house.names.append(image)
    engine = DockerEngine(HOST)
    removals: list[bool] = []

    async def used_and_removed(use: object) -> None:
        await house.keeper.used(use)  # type: ignore[arg-type] # an ImageUse
        if not removals:
            removals.append(await engine.remove_image(await house.id_of(image), [image]))

    engine.tell_of_images(used_and_removed)
    async with bench.runner(engine=engine):
        job_id = await bench.submit("echo ran", payload={"container_image": image})
        job, ended = await bench.end(job_id)
        assert (job.state, ended.error, removals) == (State.SUCCESS, "", [True])
        assert await bench.text(job) == "ran\n"
    assert len(await house.later(DAY)) == 1


@pytest.mark.soak
@pytest.mark.parametrize("known", [False, True])
async def test_a_use_while_nats_is_away_is_told_later(nats_process: NatsProcess, image: str, known: bool) -> None:
    async with connected(nats_process.url) as broker:
        house = House(broker)
        if known:
            await house.use(image)
            house.clock[0] += DAY
        await nats_process.stop()
        image_id = await house.use(image)
        await nats_process.start()
        await broker.wait_connected()
        assert await house.later(0) == []
        assert await house.later(DAY) == [image_id]
        await house.close()


async def test_it_sweeps_by_itself_and_survives_errors(house: House, image: str) -> None:
    await house.use(image)
    gone = asyncio.Event()
    failures = [EngineError("no"), EngineError("no")]

    class Failing(DockerEngine):
        async def images(self) -> Mapping[str, bool]:
            if failures:
                raise failures.pop()
            return await super().images()

        async def remove_image(self, image_id: str, names: Collection[str]) -> bool:
            removed = await super().remove_image(image_id, names)
            gone.set()
            return removed

    engine = Failing(HOST)
    keeper = ImageKeeper(house.broker, engine, retention=0.2, now=time.time)
    async with meanwhile(keeper.run()), asyncio.timeout(20):
        await gone.wait()
    assert image not in await house.tags()
    await engine.close()


async def test_an_engine_without_an_id_is_left_alone(house: House, image: str) -> None:
    class Nameless(DockerEngine):
        async def info(self) -> Mapping[str, str | int]:
            return {}

    engine = Nameless(HOST)
    keeper = house.another_keeper(engine)
    await engine.ensure_image(image, always=False)
    house.names.append(image)
    house.clock[0] += DAY
    assert await keeper.sweep() == []
    assert image in await house.tags()


async def test_records_of_an_engine_that_is_gone_expire(house: House, image: str) -> None:
    image_id = await house.use(image)
    subject = kv_subject(IMAGES_BUCKET, image_key(await id_of_engine(house.engine), image_id))
    answer = await house.broker.api(f"STREAM.MSG.GET.{kv_stream(IMAGES_BUCKET)}", {"last_by_subj": subject})
    assert raw_message(answer["message"]).headers["Nats-TTL"] == f"{DAY + FORGOTTEN_AFTER:.0f}s"


async def test_what_is_no_record_is_passed_over(house: House, image: str) -> None:
    image_id = await house.use(image)
    for text in (b"", b"\xff", b"[]", b'{"names": 5}'):
        subject = kv_subject(IMAGES_BUCKET, image_key(await id_of_engine(house.engine), secrets.token_hex(4)))
        await house.broker.publish(subject, text)
    assert await house.later(DAY) == [image_id]


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
