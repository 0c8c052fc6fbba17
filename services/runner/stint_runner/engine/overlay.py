"""Files that Stint itself puts into a container, as one plain tar."""

import io
import tarfile

import msgspec

USER_ID = 2001
"""User and group of every job's process."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file of an overlay.

    Attributes:
        path: where it goes, from `/`.
        data: its bytes. May be secret, so they are not in `repr`.
        mode: permission bits.
        owner: user and group id.
    """

    path: str
    data: bytes
    mode: int
    owner: int

    def __repr__(self) -> str:
        return f"Member(path={self.path!r}, size={len(self.data)}, mode={self.mode:#o}, owner={self.owner})"


def overlay(*members: Member) -> bytes:
    """A tar of the members, dated 1970, for `Engine.put_archive`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            entry = tarfile.TarInfo(member.path.lstrip("/"))
            entry.size = len(member.data)
            entry.mode = member.mode
            entry.uid = entry.gid = member.owner
            archive.addfile(entry, io.BytesIO(member.data))
    return buffer.getvalue()
