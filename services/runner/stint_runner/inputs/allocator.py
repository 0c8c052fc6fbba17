"""How the C library keeps memory that Python gave back."""

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3
"""`M_MMAP_THRESHOLD` of mallopt(3)."""
LARGE: Final = 256 * 1024
"""Bytes from which on memory goes back to the system at once."""


def return_large_memory() -> None:
    """Let this process shrink again when a payload is let go of. Does nothing where the C library is not glibc.

    Otherwise glibc would, once it has seen one large block given back, keep such blocks for later.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, LARGE)
