"""When jobs are claimed while the engine's disk is full."""

from contextlib import suppress

import pytest

from stint.core.errors import EngineError, UnfitError
from stint_runner.engine import space
from stint_runner.engine.space import FULL, PAUSE, EngineSpace

NO_ROOM = "write /x: no space left on device"


def not_made(disk: EngineSpace, error: str) -> None:
    with suppress(EngineError), disk.needed():
        raise EngineError(error)


@pytest.mark.parametrize("no_room", [NO_ROOM, f"{NO_ROOM}: unknown"])  # the latter is containerd's
def test_while_the_disk_is_full_one_job_after_each_pause_is_tried(
    monkeypatch: pytest.MonkeyPatch, no_room: str
) -> None:
    now = 100.0
    monkeypatch.setattr(space, "boot_time", lambda: now)
    disk = EngineSpace()
    not_made(disk, "The image cannot be pulled.")
    disk.check()
    assert not disk.missing()
    not_made(disk, no_room)
    for _ in range(2):
        assert disk.missing() == FULL
        with pytest.raises(UnfitError, match=FULL):
            disk.check()
        now += PAUSE
        disk.check()  # the next one tries
    not_made(disk, "no such volume")
    with pytest.raises(UnfitError):
        disk.check()
    disk.made()
    disk.check()
    assert not disk.missing()
