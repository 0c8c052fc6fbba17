import base64
import gzip
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stint.cli.run_job import exit_code
from stint.client import pack as packing
from stint.client.api import parse_events
from stint.client.options import Endpoints, RunOptions, endpoints
from stint.client.pack import pack
from stint.client.submission import Handover
from stint.core.errors import ConfigError
from stint.core.payload import JobPayload


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "content"
    (root / "demo" / "empty").mkdir(parents=True)
    (root / "demo" / "run.sh").write_text("#!/bin/sh\n")
    (root / "demo" / "run.sh").chmod(0o750)
    (root / "demo" / "link").symlink_to("/etc/passwd")
    (root / "gostint.yml").write_text("container_image: busybox\n")
    return root


def _members(content: str) -> list[tarfile.TarInfo]:
    kind, _, data = content.partition(",")
    assert kind == "targz"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(base64.b64decode(data, validate=True)))) as archive:
        return archive.getmembers()


def test_a_folder_is_packed_as_root_owns_it(folder: Path) -> None:
    members = {member.name: member for member in _members(pack(folder))}
    assert list(members) == ["./demo", "./demo/empty", "./demo/link", "./demo/run.sh", "./gostint.yml"]
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}
    assert members["./demo/run.sh"].mode == 0o750
    assert (members["./demo/link"].issym(), members["./demo/link"].linkname) == (True, "/etc/passwd")


def test_the_same_folder_is_the_same_text(folder: Path) -> None:
    assert pack(folder) == pack(folder)


def test_what_is_no_file_is_left_out(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "./pipe" not in {member.name for member in _members(pack(folder))}


def test_an_archive_is_taken_as_it_is(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(b"whatever")
    assert pack(archive) == "targz," + base64.b64encode(b"whatever").decode()


def test_what_cannot_be_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"neither a folder nor a \.tar\.gz"):
        pack(folder / "gostint.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        pack(folder / "none.tar.gz")
    monkeypatch.setattr(packing, "MAX_CONTENT", 10)
    with pytest.raises(ConfigError, match="too large"):
        pack(folder)


async def _lines(text: str) -> AsyncIterator[str]:
    for line in text.split("\n"):
        yield line


async def test_events_are_read_line_by_line() -> None:
    text = ': ping\n\nevent: fact\nid: 1-0-0\ndata: {"kind":"started"}\n\ndata:{}\n\ndata: [1]\n\nevent: end\ndata: {}'
    found = [(event.name, event.position, dict(event.data)) async for event in parse_events(_lines(text))]
    assert found == [("fact", "1-0-0", {"kind": "started"}), ("message", "", {})]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("success", 0, 0), ("failed", 3, 3), ("failed", 0, 1), ("notauthorised", 0, 1), ("unknown", 0, 1)],
)
def test_exit_codes(status: str, code: int, expected: int) -> None:
    assert exit_code({"status": status, "return_code": code}) == expected


def test_where_things_are() -> None:
    where = endpoints({"VAULT_TOKEN": "v", "STINT_TOKEN": "s", "STINT_URL": "https://a/"})
    assert (where.token, where.url) == ("s", "https://a")
    assert endpoints({"VAULT_TOKEN": "v"}, url="http://b").url == "http://b"
    with pytest.raises(ConfigError, match="STINT_TOKEN or VAULT_TOKEN"):
        endpoints({"STINT_TOKEN": ""})


def test_a_repr_shows_no_secret() -> None:
    where = Endpoints(url="http://a", vault_addr="http://v", token="hidden")
    options = RunOptions(endpoints=where, job=JobPayload(env_vars=("A=hidden",)))
    assert "hidden" not in repr(options)
    assert "hidden" not in repr(Handover("hidden", "hidden", "hidden"))
