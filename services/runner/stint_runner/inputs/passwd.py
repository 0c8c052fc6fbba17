"""The line in `/etc/passwd` that gives a job's user its name and its home."""

from stint_runner.engine.overlay import USER_ID, Member

PATH = "/etc/passwd"
ENTRY = f"gostint:x:{USER_ID}:{USER_ID}:gostint:/tmp:/bin/sh".encode()


def with_job_user(passwd: bytes | None) -> bytes:
    """The image's `/etc/passwd` (None: it has none) with the job's user.

    Where the image has an entry of the same id or name already, ours stands before it: look-ups take the first match,
    so `HOME` is `/tmp` and the image's own name still resolves.
    """
    lines = passwd.removesuffix(b"\n").split(b"\n") if passwd else []
    place = next((index for index, line in enumerate(lines) if _clashes(line)), len(lines))
    if ENTRY not in lines[place : place + 1]:
        lines.insert(place, ENTRY)
    return b"".join(line + b"\n" for line in lines)


def passwd_member(passwd: bytes | None) -> Member:
    """The file for the container's overlay: 0444, root's."""
    return Member(path=PATH, data=with_job_user(passwd), mode=0o444, owner=0)


def _clashes(line: bytes) -> bool:
    name, *rest = line.split(b":")
    return name == b"gostint" or (len(rest) > 1 and rest[1] == str(USER_ID).encode())
