"""Files of images that jobs need, remembered by image: many jobs use few images."""

from collections import OrderedDict
from typing import Final

import msgspec

from stint_runner.engine.port import Engine
from stint_runner.inputs.files import PASSWD
from stint_runner.together import side_by_side

IMAGE_MANIFEST: Final = "/gostint_image.yml"
REMEMBERED: Final = 256
"""Images whose files are remembered."""
SMALL: Final = 16 * 1024
"""Bytes up to which an image's files are remembered."""


class ImageFiles(msgspec.Struct, frozen=True):
    """An image's `/gostint_image.yml` and `/etc/passwd`, None if it does not have one; its id is "" if it has none."""

    image_id: str
    manifest: bytes | None
    passwd: bytes | None

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.manifest or b"") + len(self.passwd or b"")


class ImageLibrary:
    """The files of the images on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: OrderedDict[str, ImageFiles] = OrderedDict()

    async def files(self, container_id: str) -> ImageFiles:
        """The files of the image that a container was just created from.

        Raises:
            EngineError: the engine refused.
        """
        image_id = await self._engine.image_of(container_id)
        if image_id in self._known:
            self._known.move_to_end(image_id)
            return self._known[image_id]
        read = self._engine.read_file
        manifest, passwd = await side_by_side(read(container_id, IMAGE_MANIFEST), read(container_id, PASSWD))
        found = ImageFiles(image_id, manifest, passwd)
        if image_id and found.size <= SMALL:
            self._known[image_id] = found
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found
