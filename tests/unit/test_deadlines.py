"""What a runner leaves on disk for its watchdog and for its own next start."""

import errno
import os
from pathlib import Path

import msgspec
import pytest

from stint.config import EngineSettings, RunnerSettings, setting_names
from stint_runner.clock import boot_id, boot_time
from stint_runner.deadlines import Deadline, Deadlines, StateError, state_folder
from stint_runner.guard import environment
from stint_runner.processes import incarnation, kill_container

JOB = "a" * 24
DEADLINE = Deadline(
    job_id=JOB,
    token="me",
    ack_subject="$JS.ACK.x",
    origin="then",
    process=incarnation(os.getpid()),
    boot=boot_id(),
    seconds=30,
)


@pytest.fixture
def deadlines(tmp_path: Path) -> Deadlines:
    deadlines = Deadlines(tmp_path / "runner-1")
    assert deadlines.open()
    return deadlines


def test_a_deadline_counts_from_the_last_confirmation(deadlines: Deadlines) -> None:
    now = boot_time()
    deadlines.put(DEADLINE, now)
    (noted,) = deadlines.all()
    assert noted.deadline == DEADLINE
    assert noted.due == pytest.approx(now + 30, abs=0.001)
    deadlines.confirm(JOB, now + 5)
    (noted,) = deadlines.all()
    assert noted.due == pytest.approx(now + 35, abs=0.001)


def test_a_confirmation_needs_no_room_on_the_disk(deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines.put(DEADLINE, 1.0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    deadlines.confirm(JOB, 2.0)
    assert [noted.confirmed for noted in deadlines.all()] == [2.0]
    with pytest.raises(StateError, match=r"STINT_STATE_DIR: .* cannot be written: No space left on device"):
        deadlines.put(msgspec.structs.replace(DEADLINE, job_id="b" * 24), 1.0)


def test_what_is_dropped_is_gone_and_may_be_dropped_again(deadlines: Deadlines) -> None:
    deadlines.put(DEADLINE, 1.0)
    for _ in range(2):
        deadlines.drop(JOB)
    assert list(deadlines.all()) == []
    deadlines.confirm(JOB, 2.0)  # says so in the log, and makes nothing
    assert deadlines.get(JOB) is None


def test_deadlines_of_another_start_of_the_machine_count_for_nothing(deadlines: Deadlines) -> None:
    deadlines.put(msgspec.structs.replace(DEADLINE, boot="another"), boot_time())
    assert list(deadlines.all()) == []


def test_junk_in_the_folder_is_passed_over(deadlines: Deadlines) -> None:
    for name in ("lock", "x.json", f"{JOB}.new"):
        (deadlines.folder / name).write_bytes(b"\xff{")
    deadlines.put(DEADLINE, 1.0)
    assert [noted.deadline.job_id for noted in deadlines.all()] == [JOB]


def test_a_folder_has_one_runner(deadlines: Deadlines) -> None:
    second = Deadlines(deadlines.folder)
    assert not second.open()
    deadlines.close()
    assert second.open()
    assert deadlines.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match=r"STINT_STATE_DIR: .* cannot be used"):
        Deadlines(tmp_path / "file" / "runner-1").open()


def test_the_folder_is_the_settings_or_one_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_folder("/somewhere", "r") == Path("/somewhere/r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert state_folder("", "r") == Path("/run/user/1/stint/r")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert state_folder("", "r").name == "r"
    assert str(os.getuid()) in str(state_folder("", "r"))


def test_a_watchdog_is_told_where_its_engine_is_and_no_secret() -> None:
    names = set(setting_names(RunnerSettings))
    own = dict.fromkeys((*names, *(f"{name}_FILE" for name in names), "VAULT_TOKEN", "PATH", "DOCKER_HOST"), "x")
    told = environment(own)
    assert set(setting_names(EngineSettings)) <= told.keys()
    assert {"PATH", "DOCKER_HOST"} <= told.keys()
    assert not [name for name in told if "SECRET" in name or "TOKEN" in name]


def test_a_process_is_known_from_a_later_one_of_its_id() -> None:
    assert incarnation(os.getpid()) == incarnation(os.getpid())
    assert incarnation(os.getpid()).partition("-")[2] != incarnation(1).partition("-")[2]
    with pytest.raises(ProcessLookupError):
        incarnation(2**22 + 1)


def test_no_process_is_killed_for_a_container_that_is_not_there() -> None:
    assert kill_container("f" * 64) == 0
