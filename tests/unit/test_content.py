import base64
import gzip
import io
import tarfile
import tracemalloc
import zlib

import pytest

from stint.core.errors import JobFailedError
from stint_runner.inputs import content, tarball
from stint_runner.inputs.content import Manifest, check_content, parse_manifest, yaml_mapping
from stint_runner.inputs.spec import MAX_SECRET_REFS
from stint_runner.inputs.tarball import Tarball
from tests.support.tarballs import END, GNU, HIDDEN, ONE_BLOCK, extended, header, padded, record, tar_of


def special(name: str, kind: bytes, link: str = "") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry.tobuf()


def pack(archive: bytes) -> str:
    return pack_raw(gzip.compress(archive, 1))


def pack_raw(packed: bytes) -> str:
    return "targz," + base64.b64encode(packed).decode()


def refused(submission: str) -> str:
    with pytest.raises(JobFailedError) as caught:
        check_content(submission)
    assert (caught.value.reason, caught.value.status) == ("content", "failed")
    return str(caught.value)


def short(value: object) -> str:
    return repr(value)[:24]


PLAIN = tar_of([("dir/file", b"data")])
GZIPPED = gzip.compress(PLAIN, mtime=0)
"""The same bytes in every process: tests are named after it."""


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_gzip_stays_as_it_is(layout: int) -> None:
    document = b"container_image: app:1\nsecret_refs: [a@b.c]\n"
    archive = tar_of([("./gostint.yml", document), ("n" * 90, b"x")], layout=layout)
    packed = gzip.compress(archive, 1)
    checked = check_content(pack_raw(packed))
    assert "container_image" not in repr(checked)
    assert checked.archive == packed
    assert checked.manifest == Manifest(container_image="app:1", secret_refs=("a@b.c",))


@pytest.mark.parametrize(
    ("name", "found"),
    [("gostint.yml", "a"), ("./gostint.yml", "a")]
    + [(name, None) for name in ("sub/gostint.yml", "gostint.yaml", "/gostint.yml", "../gostint.yml", "dir/file")],
)
def test_names_of_the_document(name: str, found: str | None) -> None:
    checked = check_content(pack(tar_of([(name, b"container_image: a" if found else b"[not read")])))
    assert checked.manifest == Manifest(container_image=found)


def test_the_last_document_counts_as_it_is_the_one_that_stays() -> None:
    archive = tar_of([("gostint.yml", b"container_image: a"), ("./gostint.yml", b"container_image: b")])
    assert check_content(pack(archive)).manifest.container_image == "b"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_document_that_is_no_regular_file(kind: bytes) -> None:
    assert check_content(pack(special("gostint.yml", kind, "dir/file") + END)).manifest == Manifest()


def test_a_large_document() -> None:
    large = b"#" * (content.MAX_DOCUMENT + 1)
    assert refused(pack(tar_of([("gostint.yml", large)]))).startswith("Failed parsing yaml in gostint.yml: over")


def test_wrapped_base64_and_gzip_in_several_members() -> None:
    wrapped = "targz," + base64.encodebytes(gzip.compress(PLAIN)).decode().replace("\n", "\r\n")
    assert gzip.decompress(check_content(wrapped).archive) == PLAIN
    packed = gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:])
    assert check_content(pack_raw(packed)).archive == packed


@pytest.mark.parametrize(
    ("submissions", "sentence"),
    [
        (["", "targz", "targz,a,b", ",,"], "Failed to parse invalid content"),
        ([f"targz,{text}" for text in ("!", "YQ", "YQ=", "Y-_Q", "YQ==YQ==", "é", " YQ==", "=")],
         "Failed to decode content base64: "),
        (["zip,YQ==", ",YQ==", "TARGZ,YQ==", "tarxz,YQ=="], "Failed to extract content, unsupported archive format: "),
    ],
)  # fmt: skip
def test_what_is_around_the_archive(submissions: list[str], sentence: str) -> None:
    for submission in submissions:
        assert refused(submission).startswith(sentence)
    assert refused("tarxz,YQ==").endswith(": tarxz")


@pytest.mark.parametrize(
    "packed",
    [
        b"", b"plain", PLAIN, zlib.compress(PLAIN), GZIPPED[:-1], GZIPPED[:30], GZIPPED[:5], GZIPPED + b"trailing",
        GZIPPED[:-8] + bytes(8), GZIPPED[:20] + b"\xff" * 20, b"\xfd7zXZ\x00" + bytes(100),
    ],
    ids=short,
)  # fmt: skip
def test_gzip(packed: bytes) -> None:
    assert refused(pack_raw(packed)).startswith("Failed to unzip content: ")


def test_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_UNPACKED", 3 * 2**20)
    assert refused(pack(bytes(4 * 2**20))) == "Failed to unzip content: over 3145728 bytes"
    fits = tar_of([("/abs", b"x"), ("../../up", bytes(3 * 2**20 - 20480))])  # paths are left to the engine
    monkeypatch.setattr(content, "MAX_UNPACKED", len(fits))
    assert gzip.decompress(check_content(pack(fits)).archive) == fits


def test_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_MEMBERS", 10)
    ten = tar_of([(str(n), b"") for n in range(10)])
    assert gzip.decompress(check_content(pack(ten)).archive) == ten
    assert refused(pack(tar_of([(str(n), b"") for n in range(11)]))) == "Failed content tar: over 10 members"


def test_many_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarball, "MAX_LINES", 10)
    member = extended(record(b"a", b"b"), record(b"mtime", b"1.5")) + header()
    assert gzip.decompress(check_content(pack(ten := member * 5 + END)).archive) == ten
    assert refused(pack(member * 6 + END)) == "Failed content tar: too many attributes"


@pytest.mark.parametrize(
    "archive",
    [
        b"", b"x" * 512, b"x" * 10240, PLAIN[:600], PLAIN[:512], PLAIN[:1024] + b"junk" * 128,
        *(header(size=size) + END for size in (b"77777777777", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"zzz")),
        PLAIN[:1024] + PLAIN[:512].replace(b"file", b"FILE") + END, special("x", tarfile.XGLTYPE) * 2000 + END,
        extended(*(record(b"key%d" % n, b"v") for n in range(200)), kind=tarfile.XGLTYPE) + header() + END,
    ],
    ids=short,
)  # fmt: skip
def test_tar(archive: bytes) -> None:
    assert refused(pack(archive)).startswith("Failed content tar: ")


SPARSE = (record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"), record(b"GNU.sparse.realsize", b"9"))


@pytest.mark.parametrize(
    "archive",
    [
        header(kind=tarfile.GNUTYPE_SPARSE, magic=GNU),
        extended(*SPARSE) + header(size=ONE_BLOCK) + padded(b"1\n0\n0\n"),
        extended(record(b"GNU.sparse.map", b"0,1"), record(b"GNU.sparse.size", b"9"))
        + header(size=b"1")
        + padded(b"x"),
    ],
    ids=["old", "1.0", "0.1"],
)
def test_sparse_files(archive: bytes) -> None:
    assert refused(pack(archive + END)) == "Failed content tar: sparse files are not taken"


@pytest.mark.parametrize(
    "archive",
    {
        "empty pax size": extended(record(b"size", b"")) + header(size=ONE_BLOCK) + HIDDEN,
        "pax size as Python has it": extended(record(b"size", b" 5_12")) + header() + HIDDEN,
        "two pax headers": extended(record(b"size", b"512")) + extended(record(b"size", b"0")) + header() + HIDDEN,
        "two long names": header(kind=b"L", size=b"2") + padded(b"a") + header(kind=b"L", size=b"2") + padded(b"b"),
        "global between": extended(record(b"size", b"512")) + extended(kind=b"g") + header() + HIDDEN,
        "size behind NUL": header(size=b"\0" + ONE_BLOCK) + HIDDEN,
        "size as Python has it": header(size=b"0o1000") + HIDDEN,
        "folder of old with data": header("x/", kind=tarfile.AREGTYPE, size=ONE_BLOCK) + HIDDEN,
        "folder by its pax path": extended(record(b"path", b"x/"))
        + header(kind=tarfile.AREGTYPE, size=ONE_BLOCK)
        + HIDDEN,
        "one empty block": header() + bytes(512) + HIDDEN,
        "nothing behind pax": header() + extended(record(b"path", b"y")),
        "record too long": extended(b"99 path=x\n") + header(),
        "record too short": extended(b"2 path=x\n") + header(),
        "record without end": extended(b"9 path=x ") + header(),
        "record without value": extended(b"7 path\n") + header(),
        "long header": header(kind=tarfile.XHDTYPE, size=b"%011o" % (2**20 + 1)) + bytes(2**20 + 512) + header(),
        "many records within each other": extended(b"2 " * 2**18 + b"=") + header(),
    }.items(),
    ids=lambda item: item[0],
)
def test_headers_that_readers_take_differently(archive: tuple[str, bytes]) -> None:
    assert refused(pack(archive[1] + END)).startswith("Failed content tar: ")


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_sees(layout: int) -> None:
    names = ["short", "n" * 100, "d/" * 60 + "x", "\u00e9" * 40, "with space", "./gostint.yml"]
    names += ["n" * 200] if layout != tarfile.USTAR_FORMAT else []
    archive = tar_of([(name, b"x" * 700 * number) for number, name in enumerate(names)], layout=layout)
    archive = archive[: archive.rindex(b"x") // 512 * 512 + 512] + special("folder", tarfile.DIRTYPE) + END
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        seen = [(member.name, member.isreg(), member.size) for member in tar]
    assert [tuple(entry) for entry in Tarball(io.BytesIO(archive).read).entries()] == seen
    assert len(seen) == len(names) + 1


def test_a_pax_size_is_that_of_the_data_and_a_global_header_names_no_member() -> None:
    document = b"container_image: a"
    archive = extended(record(b"size", b"%d" % len(document))) + header("gostint.yml") + padded(document)
    assert check_content(pack(archive + END)).manifest.container_image == "a"
    archive = extended(record(b"path", b"gostint.yml"), kind=tarfile.XGLTYPE) + header(size=b"1") + padded(b"[")
    assert check_content(pack(archive + END)).manifest == Manifest()


@pytest.mark.parametrize("name", ["bomb", "x/gostint.yml"])
def test_no_more_than_a_piece_is_in_memory(name: str) -> None:
    bomb = pack(tar_of([(name, bytes(40 * 2**20))]))
    tracemalloc.start()
    try:
        check_content(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "document"),
    [
        (b"", {}),
        (b"# only a comment\n", {}),
        (
            b"---\na: 1\nb: yes\nc: ~\nd:\ne: 2001-01-01\n",
            {"a": "1", "b": "yes", "c": None, "d": None, "e": "2001-01-01"},
        ),
        (b"a: [x, {y: z}]\n1: t\n", {"a": ["x", {"y": "z"}], "1": "t"}),
        (b"a: first\n---\na: second\n", {"a": "first"}),
        (b"a: !!python/object/apply:os.system [true]\n", {"a": ["true"]}),
        (b"a: &anchor x\n", {"a": "x"}),
        (b"a: 'null'\n", {"a": "null"}),
        ("a: ü".encode("utf-16"), {"a": "ü"}),
    ],
)
def test_yaml(data: bytes, document: object) -> None:
    assert yaml_mapping(data) == document


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"- a\n", "not a mapping"),
        (b"hidden", "not a mapping"),
        (b"a: b: hidden", "line 1, column 5"),
        (b"x: 1\na: [hidden", "line 2, column 11"),
        (b"a: &x hidden\nb: *x\n", "an alias is not allowed"),
        (b"a: *hidden\n", "an alias is not allowed"),
        (b"{[a]: hidden}: b", "line 1, column 2"),
        (b"a: \xff\xfehidden", "malformed"),
        (b"a: hid\0den", "malformed"),
        (rb'a: "hidden\UFFFFFFFF"', "malformed"),
        (rb'a: "hidden\U7FFFFFFF"', "malformed"),
        (b"[" * 1_000, "malformed"),
        (b"#" * (128 * 1024 + 1), "over 131072 bytes"),
        (b"x: [" + b"a," * 5000 + b"]", "over 4096 values"),
        (b"x: [" + b"a," * 5000, "over 4096 values"),
        (b"".join(b"%d:\n" % number for number in range(5000)), "over 4096 values"),
    ],
    ids=short,
)
def test_bad_yaml(data: bytes, fault: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        parse_manifest(data, name="some.yml", reason="image")
    assert (str(caught.value), caught.value.reason) == (f"Failed parsing yaml in some.yml: {fault}", "image")


def test_a_manifest_has_room_for_all_references_of_a_job() -> None:
    refs = tuple(f"{'v' * 30}_{number}@kv/data/{'p' * 50}.{'k' * 25}" for number in range(MAX_SECRET_REFS))
    document = "container_image: x\nsecret_refs:\n" + "".join(f"- {ref}\n" for ref in refs)
    assert parse_manifest(document.encode()).secret_refs == refs


def test_manifests() -> None:
    assert parse_manifest(b"secret_refs:\n- a@b.c\nother: {x: y}\n") == Manifest(secret_refs=("a@b.c",))
    assert parse_manifest(b"secret_refs:\ncontainer_image:\n") == Manifest()
    for bad in (
        b"secret_refs: hidden",
        b"secret_refs: [{a: hidden}]",
        b"container_image: [hidden]",
        b'container_image: "hidden\\uD800"',
        b'secret_refs: ["hidden\\uDFFF"]',
    ):
        with pytest.raises(JobFailedError, match=r"^Failed parsing yaml in gostint_image\.yml: ") as caught:
            parse_manifest(bad, name="gostint_image.yml", reason="image")
        assert caught.value.reason == "image"
        assert "hidden" not in str(caught.value)
