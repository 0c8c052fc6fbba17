"""What a Docker engine says of a pull, line by line."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from stint.core.errors import EngineError

_UNTOUCHED: Final = frozenset({"Waiting", "Already exists"})  # what Docker says of layers before it loads the first


class PullProgress:
    """How much of a pull is done: half of a layer's work is its download, half is its unpacking.

    A layer's size is known once its download has begun. Until then the average of the known ones is taken.
    """

    def __init__(self) -> None:
        # What Docker says of each, how much of it is done, and its size, 0 if not known.
        self._layers: dict[str, tuple[str, float, int]] = {}
        # Sums of them, because an image may have thousands of layers, and each some lines.
        self._sized = self._size = self._half_bytes_done = 0
        self._unsized_done = 0.0

    @property
    def waits(self) -> bool:
        """Whether other pulls come first.

        Once a layer was loaded nobody can tell: Docker says of each layer that it waits until its first byte is there.
        """
        statuses = {status for status, _, _ in self._layers.values()}
        return "Waiting" in statuses and statuses <= _UNTOUCHED

    def after(self, line: bytes) -> float:
        """How much is done, from 0 to 1, after this line of the engine's.

        Raises:
            EngineError: the pull has failed, in the engine's words; or the line is not JSON.
        """
        try:
            progress = json.loads(line)
        except ValueError:
            raise EngineError("the engine's progress is not JSON") from None
        failure = progress.get("errorDetail") or {}
        if error := failure.get("message") or progress.get("error"):
            raise EngineError(str(error))
        layer, status = str(progress.get("id") or ""), str(progress.get("status") or "")
        detail = progress.get("progressDetail") or {}
        if layer and (share := self._share(status, detail)) is not None:
            _, before, size = self._layers.get(layer, ("", 0.0, 0))
            self._add(before, size, -1)
            size = int(detail.get("total") or size)
            self._layers[layer] = status, share, size
            self._add(share, size, 1)
        average = self._size / self._sized if self._sized else 1.0
        unsized = len(self._layers) - self._sized
        done = self._half_bytes_done / 2 + self._unsized_done * average
        return done / max(1.0, self._size + unsized * average)

    def _add(self, share: float, size: int, times: int) -> None:
        if size:
            self._sized += times
            self._size += times * size
            self._half_bytes_done += times * round(2 * share * size)  # a whole number: the sum stays exact
        else:
            self._unsized_done += times * share

    @staticmethod
    def _share(status: str, detail: Mapping[str, Any]) -> float | None:
        """How much of one layer is done; None for what is no layer's status."""
        part = min(1.0, detail.get("current", 0) / (detail.get("total") or math.inf))
        shares = {
            "Pulling fs layer": 0.0,
            "Waiting": 0.0,
            "Downloading": part / 2,
            "Verifying Checksum": 0.5,
            "Download complete": 0.5,
            "Extracting": 0.5 + part / 2,
            "Pull complete": 1.0,
            "Already exists": 1.0,
        }
        return shares.get(status)
