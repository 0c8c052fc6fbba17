"""Files that Stint itself puts into a container, the job's user among them, and those of images that it reads."""

import io
import tarfile
from collections import OrderedDict
from typing import Final

import msgspec

from stint_runner.engine.port import USER_ID, Engine
from stint_runner.together import side_by_side

PASSWD: Final = "/etc/passwd"
ENTRY: Final = f"gostint:x:{USER_ID}:{USER_ID}:gostint:/tmp:/bin/sh".encode()  # gives a job's user a name and a home
IMAGE_MANIFEST: Final = "/gostint_image.yml"
REMEMBERED: Final = 256  # images whose files are remembered
SMALL: Final = 16 * 1024  # bytes up to which an image's files are remembered


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file of an overlay; `owner` is user and group id. Its bytes may be secret, and are not in `repr`."""

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


def passwd_member(passwd: bytes | None) -> Member:
    """The image's `/etc/passwd` (None: it has none) with the job's user, for the container's overlay: 0444, root's.

    Where the image has an entry of the same id or name already, ours stands before it: look-ups take the first match,
    so `HOME` is `/tmp` and the image's own name still resolves.
    """
    lines = passwd.removesuffix(b"\n").split(b"\n") if passwd else []
    place = next((index for index, line in enumerate(lines) if _clashes(line)), len(lines))
    if ENTRY not in lines[place : place + 1]:
        lines.insert(place, ENTRY)
    return Member(path=PASSWD, data=b"".join(line + b"\n" for line in lines), mode=0o444, owner=0)


def _clashes(line: bytes) -> bool:
    name, *rest = line.split(b":")
    return name == b"gostint" or (len(rest) > 1 and rest[1] == str(USER_ID).encode())


class ImageFiles(msgspec.Struct, frozen=True):
    """An image's `/gostint_image.yml` and `/etc/passwd`, None if it does not have one; its id is "" if it has none."""

    image_id: str
    manifest: bytes | None
    passwd: bytes | None


class ImageLibrary:
    """The files of the images on an engine, remembered by image: many jobs use few."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: OrderedDict[str, ImageFiles] = OrderedDict()

    async def files(self, container_id: str) -> ImageFiles:
        """The files of the image that a container was just created from. Raises EngineError if the engine refuses."""
        image_id = await self._engine.image_of(container_id)
        if image_id in self._known:
            self._known.move_to_end(image_id)
            return self._known[image_id]
        read = self._engine.read_file
        manifest, passwd = await side_by_side(read(container_id, IMAGE_MANIFEST), read(container_id, PASSWD))
        found = ImageFiles(image_id, manifest, passwd)
        if image_id and len(manifest or b"") + len(passwd or b"") <= SMALL:
            self._known[image_id] = found
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found
