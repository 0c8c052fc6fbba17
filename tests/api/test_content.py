"""Contract, section 3: the content that is laid over the container."""

import asyncio
import gzip
import lzma
import tarfile

import pytest

from tests.api.archive import base64_of, targz
from tests.api.client import Api
from tests.support.tarballs import tar_of

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


async def test_each_layer_is_named_in_its_error(api: Api) -> None:
    broken_tar = gzip.compress(tar_of({"a": "x" * 2000})[:700])
    faults = {
        "targz": "Failed to parse invalid content",
        "targz,a,b": "Failed to parse invalid content",
        "targz,!!": "Failed to decode content base64: ",
        "targz," + base64_of(b"x") + "\u00e9": "Failed to decode content base64: ",
        "zip," + base64_of(b"x"): "Failed to extract content, unsupported archive format: zip",
        "," + base64_of(b"x"): "Failed to extract content, unsupported archive format: ",
        "targz," + base64_of(b"nonsense"): "Failed to unzip content: ",
        "targz,": "Failed to unzip content: ",
        "targz," + base64_of(gzip.compress(b"x" * 1000)[:-12]): "Failed to unzip content: ",
        "targz," + base64_of(lzma.compress(tar_of({"a": "b"}))): "Failed to unzip content: ",
        "targz," + base64_of(gzip.compress(b"x" * 5000)): "Failed content tar: ",
        "targz," + base64_of(broken_tar): "Failed content tar: ",
        targz({"./gostint.yml": "{"}): "Failed parsing yaml in gostint.yml: ",
        targz({"./gostint.yml": "- a\n- b\n"}): "Failed parsing yaml in gostint.yml: ",
    }
    jobs = await asyncio.gather(*(api.run("echo it ran", content=content) for content in faults))
    for sentence, job in zip(faults.values(), jobs, strict=True):
        assert (job["status"], job["reason"], job["return_code"], job["container_id"]) == ("failed", "content", 0, "")
        assert job["output"] == job["error"]
        assert job["error"].startswith(sentence)


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_hard_link_that_leads_nowhere(api: Api, read_only: bool) -> None:
    content = targz({"a": ""}, type=tarfile.LNKTYPE, linkname="none")
    job = await api.run("echo it ran", content=content, read_only=read_only)
    told = "Failed content tar: a hard link leads to a file that is not there"
    assert (job["status"], job["reason"], job["output"], job["error"]) == ("failed", "content", told, told)


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
