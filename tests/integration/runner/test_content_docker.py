"""Docker unpacks what the check of content has seen."""

import base64
import gzip
import io
import tarfile

import pytest

from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerSpec
from stint_runner.inputs.content import check_content
from stint_runner.inputs.tarball import Tarball
from tests.support.tarballs import END, GNU, HIDDEN, ONE_BLOCK, extended, header, padded, record


def named(path: str) -> bytes:
    """A long name, as GNU tar has it."""
    return header("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=b"%o" % len(path), magic=GNU) + padded(
        path.encode()
    )


PLAIN = header("d/a", size=b"4") + padded(b"data") + header("d/b", size=ONE_BLOCK) + HIDDEN + END
PACKED = {
    "plain": gzip.compress(PLAIN),
    "binary size": gzip.compress(header("d/a", size=b"\x80" + (512).to_bytes(11, "big")) + HIDDEN + END),
    "pax size": gzip.compress(extended(record(b"size", b"512")) + header("d/a") + HIDDEN + END),
    "global size": gzip.compress(extended(record(b"size", b"512"), kind=b"g") + header("d/a") + HIDDEN + END),
    "both names": gzip.compress(
        named("d/gnu") + extended(record(b"path", b"d/pax")) + header("d/a", size=b"1") + padded(b"x") + END
    ),
    "folder of old": gzip.compress(
        header("d/a/", kind=tarfile.AREGTYPE) + header("d/a/b", size=b"1") + padded(b"x") + END
    ),
    "folder of old with another name": gzip.compress(named("d/file") + header("d/a/", kind=tarfile.AREGTYPE) + END),
    "file by a folder's name": gzip.compress(named("d/a/") + header("d/file", kind=tarfile.AREGTYPE) + END),
    "without an end": gzip.compress(PLAIN[: -len(END)]),
    "in parts": gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]),
    "another tar behind": gzip.compress(PLAIN) + gzip.compress(header("d/c", size=b"1") + padded(b"x") + END),
    "zeros behind": gzip.compress(PLAIN) + bytes(5000),
}  # fmt: skip


def seen(packed: bytes) -> dict[str, bytes]:
    tar = Tarball(io.BytesIO(gzip.decompress(packed)).read)
    return {f"/{entry.name}": tar.data(entry) for entry in tar.entries() if entry.regular}


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
async def test_docker_unpacks_what_was_checked(engine: DockerEngine, busybox: str, packed: bytes) -> None:
    container = await engine.create(ContainerSpec(image=busybox, labels={"stint-test": "content"}))
    try:
        await engine.put_archive(container, check_content("targz," + base64.b64encode(packed).decode()).archive)
        files = {
            path: data
            for path in ("/d/a", "/d/b", "/d/c", "/d/gnu", "/d/pax", "/d/file", "/d/a/b", "/gostint.yml")
            if (data := await engine.read_file(container, path)) is not None
        }
    finally:
        await engine.remove(container)
    assert files == seen(packed)
