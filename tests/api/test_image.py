"""Contract, sections 0 and 3: image references, and the documents that images and content carry."""

import asyncio

from tests.api.archive import build, targz
from tests.api.client import Api, Json


def failure(job: Json) -> str:
    assert (job["status"], job["reason"], job["return_code"]) == ("failed", "image", 0), job
    assert job["output"] == job["error"]
    return str(job["error"])


async def test_names_of_the_same_image(api: Api) -> None:
    names = ["busybox", "busybox:latest", "docker.io/library/busybox", "library/busybox:latest"]
    for name, job in zip(names, await side_by_side(api, *names), strict=True):
        assert (job["output"], job["container_image"]) == ("ran\n", name)


async def side_by_side(api: Api, *images: str, **fields: str) -> list[Json]:
    """Jobs of these images, ended."""
    return await asyncio.gather(*(api.run("echo ran", container_image=image, **fields) for image in images))


NO_REFERENCES = ["UPPER", "a b", "../x", ":latest", "busybox:", "x@sha256:1", "-x", "a//b", "x" * 300]


async def test_what_is_no_reference_and_no_policy(api: Api) -> None:
    for image, job in zip(NO_REFERENCES, await side_by_side(api, *NO_REFERENCES), strict=True):
        assert image in failure(job)
    nothing, policy = await api.run(container_image=""), await api.run(image_pull_policy="Sometimes")
    assert failure(nothing) == "ContainerImage is empty"
    assert failure(policy) == "Incorrect value for image_pull_policy: Sometimes"


async def test_an_image_that_is_there_is_not_pulled(api: Api) -> None:
    image = await build(api.env["DOCKER_HOST"], "no-such-registry.invalid/here:1", "FROM busybox\nLABEL a=b\n")
    for policy in ("", "IfNotPresent"):
        assert (await api.run("echo ran", container_image=image, image_pull_policy=policy))["output"] == "ran\n"


async def test_any_of_an_images_names_will_do(api: Api) -> None:
    names = ["stint-suite/one:a", "stint-suite/two:b", "stint-suite/three"]
    for name in names:
        await build(api.env["DOCKER_HOST"], name, "FROM busybox\nLABEL many=tags\n")
    for job in await side_by_side(api, *names, "stint-suite/three:latest"):
        assert job["output"] == "ran\n"


async def test_no_such_host_fails_at_once(api: Api) -> None:
    error = failure(await api.run(container_image="no-such-registry.invalid/x:1"))
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


async def test_a_bad_document_of_an_image_and_one_that_is_no_file(api: Api) -> None:
    """Of the second nothing is read."""
    images = [
        await build(api.env["DOCKER_HOST"], f"stint-suite/manifest:{name}", f"FROM busybox\nCOPY x {target}\n", files)
        for name, target, files in (
            ("bad", "/gostint_image.yml", {"x": "a: [\n"}),
            ("folder", "/gostint_image.yml/x", {"x": "secret_refs: nonsense"}),
        )
    ]
    bad, folder = await side_by_side(api, *images)
    assert (bad["status"], bad["return_code"]) == ("failed", 0)
    assert "gostint_image.yml" in bad["error"]
    assert folder["output"] == "ran\n"
