"""Contract, sections 0 and 3: images that are really pulled, from registries with and without a login."""

import pytest

from tests.api.client import Api, Json
from tests.api.conftest import Registries


async def ran(api: Api, image: str, policy: str = "") -> Json:
    job = await api.run("echo ran", container_image=image, image_pull_policy=policy)
    assert (job["status"], job["output"], job["container_image"]) == ("success", "ran\n", image), job["error"]
    return job


async def test_a_plain_name_comes_from_docker_hub(api: Api, registries: Registries) -> None:
    hub = registries.hub
    before = len(hub.asked("library/busybox"))
    await ran(api, "busybox", "Always")
    assert len(hub.asked("library/busybox")) > before
    before = len(hub.asked("library/busybox"))
    await ran(api, "busybox", "IfNotPresent")
    assert len(hub.asked("library/busybox")) == before


async def test_a_registry_with_a_port(api: Api, registries: Registries) -> None:
    """`latest` is added where there is no tag."""
    hub = registries.hub
    image = (await hub.push_new("busybox", "team/untagged")).removesuffix(":latest")
    await ran(api, image)
    asked = hub.asked("team/untagged")
    assert asked[0].reference == "latest"
    await ran(api, image)
    assert hub.asked("team/untagged") == asked


async def test_by_digest(api: Api, registries: Registries) -> None:
    hub = registries.hub
    await hub.push_new("busybox", "team/pinned:1")
    digest = await hub.digest("team/pinned:1")
    image = f"{hub.host}/team/pinned@{digest}"
    await ran(api, image)
    asked = len(hub.asked("team/pinned"))
    await ran(api, image)
    assert len(hub.asked("team/pinned")) == asked
    await ran(api, f"{hub.host}/team/pinned:ignored@{digest}")


async def test_always_sees_what_was_pushed_since(api: Api, registries: Registries) -> None:
    hub = registries.hub
    image = await hub.push_new("busybox", "team/moving:1")
    await ran(api, image)
    await hub.push_new("busybox", "team/moving:1")
    digest = await hub.digest("team/moving:1")
    await ran(api, image, "IfNotPresent")
    assert digest not in await _digests(api, image)
    await ran(api, image, "Always")
    assert digest in await _digests(api, image)


async def _digests(api: Api, image: str) -> str:
    """Of the image that the engine has under this name."""
    async with api.engine() as engine:
        return " ".join((await engine.get(f"/images/{image}/json")).json()["RepoDigests"])


def refused(job: Json) -> None:
    """Its image is not asked for again."""
    assert (job["status"], job["reason"], len(job["error"].splitlines())) == ("failed", "image", 2)
    assert job["error"].startswith("All attempts fail:\n#1: ")


async def test_an_image_that_no_registry_has(api: Api, registries: Registries) -> None:
    for image in (f"{registries.hub.host}/team/none:1", "no-such-image-anywhere"):
        refused(await api.run(container_image=image))


@pytest.mark.parametrize("which", ["by_config", "by_vault"])
async def test_a_registry_that_wants_a_login(api: Api, registries: Registries, which: str) -> None:
    wanted = getattr(registries, which)
    image = await wanted.push_new("busybox", "team/private:1")
    job = await ran(api, image)
    assert "a pass:word" not in str(job)


async def test_a_registry_that_nobody_has_a_login_for_or_a_wrong_one(api: Api, registries: Registries) -> None:
    """Vault's word wins over the docker config's."""
    closed, vault = registries.closed, api.vault
    image = await closed.push_new("busybox", "team/other:1")
    refused(await api.run(container_image=image))
    found = await vault.call(vault.admin, "GET", "kv/data/registries")
    wrong = {"username": "someone", "password": "quite-wrong-word"}
    await vault.put_secret("registries", {**found["data"]["data"], closed.host: wrong})
    try:
        job = await api.run(container_image=image)
        refused(job)
        assert "quite-wrong-word" not in str(job)
        await vault.put_secret("registries", {**found["data"]["data"], closed.host: closed.login})
        await ran(api, image)
    finally:
        await vault.put_secret("registries", found["data"]["data"])
