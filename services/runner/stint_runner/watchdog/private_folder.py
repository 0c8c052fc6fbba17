"""A folder in which nobody else on this machine can put or change anything."""

import os
import stat
from pathlib import Path

from stint.core.errors import StintError


class ForeignFolderError(StintError):
    """Another user could change what is in a folder."""


def make_private(folder: Path) -> None:
    """Make the folder, and what is missing above it, for this user only. One that is there already must be safe.

    The folder above it counts as well: who may write there can put another one in its place.

    Raises:
        ForeignFolderError: it is another user's, others may write to it, or it is a symbolic link.
        OSError: it cannot be made.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_above(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ForeignFolderError(f"{folder} is a symbolic link.")
    if found.st_uid != os.geteuid():
        raise ForeignFolderError(f"{folder} belongs to another user (id {found.st_uid}).")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ForeignFolderError(f"Other users may write to {folder}.")


def _check_above(folder: Path) -> None:
    """This user's or root's, a link to it likewise; others may write there only where they can remove nothing."""
    for found in (folder.lstat(), folder.stat()):
        if found.st_uid not in {0, os.geteuid()}:
            raise ForeignFolderError(f"{folder} belongs to another user (id {found.st_uid}).")
    mode = folder.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise ForeignFolderError(f"Other users may write to {folder}.")
