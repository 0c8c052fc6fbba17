"""Contract, sections 0 and 3: image references, and the documents that images and content carry."""

import pytest

from tests.api.archive import build, targz
from tests.api.client import Api, Json


async def failed(api: Api, image: str, **fields: str) -> str:
    return failure(await api.run("echo it ran", container_image=image, **fields))


def failure(job: Json) -> str:
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "image", 0), job
    assert job["output"] == job["error"]
    return str(job["error"])


@pytest.mark.parametrize("image", ["busybox", "busybox:latest", "docker.io/library/busybox", "library/busybox:latest"])
async def test_names_of_the_same_image(api: Api, image: str) -> None:
    job = await api.run("echo ran", container_image=image)
    assert (job["output"], job["container_image"]) == ("ran\n", image)


async def test_without_an_image(api: Api) -> None:
    assert await failed(api, "") == "ContainerImage is empty"


NO_REFERENCES = ["UPPER", "a b", "../x", ":latest", "busybox:", "x@sha256:1", "-x", "a//b", "x" * 300]


@pytest.fixture(scope="module")
async def no_references(api: Api) -> dict[str, str]:
    """The jobs' ids, side by side in queues of their own."""
    return {image: await api.submit("echo it ran", container_image=image) for image in NO_REFERENCES}


@pytest.mark.parametrize("image", NO_REFERENCES, ids=range(len(NO_REFERENCES)))
async def test_what_is_no_reference(api: Api, no_references: dict[str, str], image: str) -> None:
    assert image in failure(await api.ended(no_references[image]))


async def test_a_policy_that_is_none(api: Api) -> None:
    error = await failed(api, "busybox", image_pull_policy="Sometimes")
    assert error == "Incorrect value for image_pull_policy: Sometimes"


@pytest.mark.parametrize("policy", ["", "IfNotPresent"])
async def test_an_image_that_is_there_is_not_pulled(api: Api, policy: str) -> None:
    image = await build(api.env["DOCKER_HOST"], "no-such-registry.invalid/here:1", "FROM busybox\nLABEL a=b\n")
    assert (await api.run("echo ran", container_image=image, image_pull_policy=policy))["output"] == "ran\n"


async def test_any_of_an_images_names_will_do(api: Api) -> None:
    for name in ("stint-suite/one:a", "stint-suite/two:b", "stint-suite/three"):
        await build(api.env["DOCKER_HOST"], name, "FROM busybox\nLABEL many=tags\n")
    for name in ("stint-suite/one:a", "stint-suite/two:b", "stint-suite/three", "stint-suite/three:latest"):
        assert (await api.run("echo ran", container_image=name))["output"] == "ran\n"


async def test_no_such_host_fails_at_once(api: Api) -> None:
    error = await failed(api, "no-such-registry.invalid/x:1")
    first, *attempts = error.splitlines()
    assert first == "All attempts fail:"
    assert [line[:3] for line in attempts] == ["#1:"]


async def test_the_document_of_an_image(api: Api) -> None:
    """Only its `secret_refs` count; content's and the payload's come after them."""
    await api.vault.put_secret("image", {"a": "from-a", "b": "from-b", "c": "from-c"})
    refs = "".join(f"- {name}@kv/data/image.a\n" for name in ("ONE", "TWO", "THREE"))
    image = await build(
        api.env["DOCKER_HOST"],
        "stint-suite/manifest:1",
        "FROM busybox\nCOPY gostint_image.yml /\n",
        {"gostint_image.yml": f"container_image: nonsense\nsecret_refs:\n{refs}"},
    )
    job = await api.run(
        "grep -v '^[-#]' /secrets.yml",
        container_image=image,
        content=targz({"gostint.yml": "secret_refs: ['TWO@kv/data/image.b', 'THREE@kv/data/image.b']"}),
        secret_refs=["THREE@kv/data/image.c"],
    )
    assert job["output"] == "ONE: from-a\nTHREE: from-c\nTWO: from-b\n"


async def test_a_bad_document_of_an_image(api: Api) -> None:
    image = await build(
        api.env["DOCKER_HOST"],
        "stint-suite/manifest:bad",
        "FROM busybox\nCOPY gostint_image.yml /\n",
        {"gostint_image.yml": "a: [\n"},
    )
    job = await api.run("echo it ran", container_image=image)
    assert (job["status"], job["return_code"]) == ("failed", 0)
    assert "gostint_image.yml" in job["error"]


async def test_a_document_that_is_no_file_is_ignored(api: Api) -> None:
    image = await build(
        api.env["DOCKER_HOST"],
        "stint-suite/manifest:folder",
        "FROM busybox\nCOPY x /gostint_image.yml/x\n",
        {"x": "secret_refs: nonsense"},
    )
    assert (await api.run("echo ran", container_image=image))["output"] == "ran\n"
