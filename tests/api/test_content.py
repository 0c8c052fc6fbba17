"""Contract, section 3: the content that is laid over the container."""

import pytest

from tests.api.archive import targz
from tests.api.client import Api

SECRET = {"value": "from-vault"}


async def test_it_is_laid_over_the_root_also_a_large_file(api: Api) -> None:
    content = targz({"./opt/app/hello.txt": "hello\n", "etc/motd": "overwritten\n"}, mode=0o640, uid=2001, gid=2001)
    job = await api.run("cat /opt/app/hello.txt /etc/motd; stat -c '%u:%g %a' /opt/app/hello.txt", content=content)
    assert job["output"] == "hello\noverwritten\n2001:2001 640\n"
    job = await api.run("wc -c < /big", content=targz({"big": b"x" * 20_000_000}))
    assert job["output"].strip() == "20000000"


async def test_owners_and_modes_stay(api: Api) -> None:
    content = targz({"secret": "x", "tool": "#!/bin/sh\necho tool ran\n"}, mode=0o700, uid=0)
    job = await api.run("cat /secret || stat -c '%u %a' /secret", content=content)
    assert job["stdout"] == "0 700\n"
    content = targz({"tool": "#!/bin/sh\necho tool ran\n"}, mode=0o755)
    assert (await api.run(content=content, run=["/tool"]))["output"] == "tool ran\n"


async def test_content_without_a_file_and_with_another_of_the_documents_name(api: Api) -> None:
    assert (await api.run("echo ok", content=targz({})))["output"] == "ok\n"
    assert (await api.run("cat /sub/gostint.yml", content=targz({"sub/gostint.yml": "{"})))["output"] == "{"


async def test_what_is_no_content_fails_the_job(api: Api) -> None:
    """What is wrong is named for each layer: `tests/unit/test_content.py`."""
    job = await api.run("echo it ran", content="zip,eA==")
    assert (job["status"], job["reason"], job["return_code"], job["container_id"]) == ("failed", "content", 0, "")
    assert job["output"] == job["error"] == "Failed to extract content, unsupported archive format: zip"


@pytest.mark.parametrize("name", ["gostint.yml", "./gostint.yml"])
async def test_gostint_yml_names_image_and_secrets(api: Api, name: str) -> None:
    await api.vault.put_secret("content", SECRET)
    manifest = "container_image: busybox\nsecret_refs:\n  - V@kv/data/content.value\nrun: [ignored]\n"
    job = await api.run("grep V /secrets.yml; cat /gostint.yml", container_image="", content=targz({name: manifest}))
    assert job["output"] == f"V: from-vault\n{manifest}", "it is left in the container"
    assert job["container_image"] == "busybox"


async def test_the_payloads_image_wins_and_its_references_too(api: Api) -> None:
    await api.vault.put_secret("content", {"value": "from-vault", "other": "the-other"})
    manifest = "container_image: no-such.invalid/x\nsecret_refs: ['V@kv/data/content.value', 'W@kv/data/content.value']"
    job = await api.run(
        "grep -E '^[VW]:' /secrets.yml",
        secret_refs=["V@kv/data/content.other"],
        content=targz({"./gostint.yml": manifest}),
    )
    assert job["output"] == "V: the-other\nW: from-vault\n"


async def test_content_cannot_replace_the_secrets(api: Api) -> None:
    await api.vault.put_secret("content", SECRET)
    job = await api.run(
        "grep V /secrets.yml; grep -c :2001: /etc/passwd",
        secret_refs=["V@kv/data/content.value"],
        content=targz({"secrets.yml": "V: forged\n", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"}),
    )
    assert job["stdout"].startswith("V: from-vault\n")
