import io
import tarfile

import pytest

from stint_runner.inputs.files import Member, overlay, passwd_member, with_job_user

ROOT = b"root:x:0:0:root:/root:/bin/sh\n"
OURS = b"gostint:x:2001:2001:gostint:/tmp:/bin/sh\n"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (None, OURS),
        (b"", OURS),
        (ROOT, ROOT + OURS),
        (ROOT.rstrip(b"\n"), ROOT + OURS),
        (ROOT + b"\n", ROOT + b"\n" + OURS),
        (ROOT + OURS, ROOT + OURS),
        (ROOT + b"app:x:2001:2001::/app:/bin/sh\n", ROOT + OURS + b"app:x:2001:2001::/app:/bin/sh\n"),
        (b"gostint:x:7:7::/:/bin/sh\n" + ROOT, OURS + b"gostint:x:7:7::/:/bin/sh\n" + ROOT),
        (b"app:x:2001:1::/:\n" + OURS, OURS + b"app:x:2001:1::/:\n" + OURS),
        (b"a:x:20010:2001::/:\n", b"a:x:20010:2001::/:\n" + OURS),
        (b"\xff\r:x:1:1::/:\nshort\n", b"\xff\r:x:1:1::/:\nshort\n" + OURS),
    ],
)
def test_the_job_user_is_found_first(image: bytes | None, expected: bytes) -> None:
    assert with_job_user(image) == expected
    assert with_job_user(expected) == expected


def test_the_file_is_root_s_and_read_only() -> None:
    member = passwd_member(ROOT)
    assert "root" not in repr(member)
    assert (member.path, member.mode, member.owner, member.data) == ("/etc/passwd", 0o444, 0, ROOT + OURS)


def test_an_overlay_is_a_plain_tar_dated_1970() -> None:
    members = [
        Member(path="/etc/passwd", data=b"one", mode=0o444, owner=0),
        Member(path="secrets.yml", data=b"", mode=0o400, owner=2001),
    ]
    with tarfile.open(fileobj=io.BytesIO(overlay(*members)), mode="r:") as tar:
        found = [(m.name, m.mode, m.uid, m.gid, m.mtime, m.size, m.type) for m in tar]
    assert found == [
        ("etc/passwd", 0o444, 0, 0, 0, 3, tarfile.REGTYPE),
        ("secrets.yml", 0o400, 2001, 2001, 0, 0, tarfile.REGTYPE),
    ]
