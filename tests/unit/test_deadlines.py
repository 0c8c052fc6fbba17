"""What a runner leaves on disk for its watchdog and for its own next start."""

import asyncio
import errno
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import structlog

from stint.process.environment import setting_names
from stint.process.settings import EngineSettings, RunnerSettings, Settings
from stint_runner.linux import boot_id, boot_time, incarnation, kill_container
from stint_runner.watchdog import guard
from stint_runner.watchdog.deadlines import UNWATCHED, Deadline, Deadlines, StateError, state_folder
from stint_runner.watchdog.guard import WatchdogError, environment, guarded
from stint_runner.watchdog.job_deadline import JobDeadline
from stint_runner.watchdog.watchdog import Access
from tests.unit.test_lease import FakeDelivery, leased_job

JOB = "a" * 24
DEADLINE = Deadline(
    job_id=JOB, ack_subject="$JS.ACK.x", origin="then", seconds=30,
    process=incarnation(os.getpid()), boot=boot_id(),
)  # fmt: skip


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
    assert {path.stat().st_mode & 0o777 for path in deadlines.folder.iterdir()} == {0o600}
    deadlines.confirm(JOB, now + 5)
    (noted,) = deadlines.all()
    assert noted.due == pytest.approx(now + 35, abs=0.001)


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def no_room() -> AbstractContextManager[None]:
    """No file gets longer than 64 bytes: what is written beyond that is refused, as on a disk that is full."""
    return limited(resource.RLIMIT_FSIZE, 64)


def test_a_job_whose_deadline_cannot_be_written_anew_lives_as_long_as_its_lease(deadlines: Deadlines) -> None:
    """The disk was full when the job's container was to be started, and has room again later."""
    leased = leased_job(FakeDelivery())
    deadline = JobDeadline(deadlines, leased)
    deadline.begin()
    with no_room(), structlog.testing.capture_logs():
        with pytest.raises(StateError, match=r"STINT_STATE_DIR: .* cannot be written: File too large"):
            deadline.add_container("c" * 64, "")
        leased.lease.take_delivery(FakeDelivery(), 2.0)
        assert [(kept.confirmed, kept.deadline.container_id) for kept in deadlines.all()] == [(2.0, "")]
        leased.lease.take_delivery(FakeDelivery(lease=0.1), 3.0)
        assert [kept.confirmed for kept in deadlines.all()] == [2.0], "a shorter lease needs a deadline of its own"
    leased.lease.take_delivery(FakeDelivery(), 4.0)
    assert [kept.confirmed for kept in deadlines.all()] == [4.0]


def test_no_job_is_claimed_while_no_watchdog_runs(deadlines: Deadlines) -> None:
    deadlines.watched = False
    deadline = JobDeadline(deadlines, leased_job(FakeDelivery()))
    with pytest.raises(StateError, match=UNWATCHED):
        deadline.begin()
    assert not any(deadlines.all())
    deadline.begin(DEADLINE)  # one that is adopted runs already
    assert any(deadlines.all())


def test_a_job_is_left_to_others_while_this_process_can_open_no_file(deadlines: Deadlines) -> None:
    deadline = JobDeadline(deadlines, leased_job(FakeDelivery()))
    with limited(resource.RLIMIT_NOFILE, 0), pytest.raises(StateError, match="Too many open files"):
        deadline.begin()


def test_what_is_dropped_is_gone_and_may_be_dropped_again(deadlines: Deadlines) -> None:
    deadlines.put(DEADLINE, 1.0)
    for _ in range(2):
        deadlines.drop(JOB)
    assert list(deadlines.all()) == []
    deadlines.confirm(JOB, 2.0)  # says so in the log, and makes nothing
    assert list(deadlines.all()) == []


def test_junk_and_deadlines_of_another_start_of_the_machine_count_for_nothing(deadlines: Deadlines) -> None:
    for name in ("lock", "0.json", f"{JOB}.new"):
        (deadlines.folder / name).write_bytes(b"\xff{")
    deadlines.put(DEADLINE, 1.0)
    deadlines.put(msgspec.structs.replace(DEADLINE, job_id="b" * 24, boot="another"), boot_time())
    assert [noted.deadline.job_id for noted in deadlines.all()] == [JOB]


def test_a_folder_has_one_runner(deadlines: Deadlines) -> None:
    second = Deadlines(deadlines.folder)
    assert not second.open()
    deadlines.close()
    assert second.open()
    assert deadlines.folder.stat().st_mode & 0o777 == 0o700


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, _how: int) -> None:
        locked.append(descriptor)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    locked = list[int]()
    monkeypatch.setattr("stint_runner.watchdog.deadlines.fcntl.flock", flock)
    with pytest.raises(StateError, match=r"STINT_STATE_DIR: .* cannot be used: No locks available\."):
        Deadlines(tmp_path / "runner-1").open()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(*locked)


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
    monkeypatch.setenv("TMPDIR", "/proc")  # where nothing can be written, as where no room is left
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert state_folder("", "r") == Path("/proc") / f"stint-{os.getuid()}" / "r"
    with pytest.raises(StateError, match="STINT_STATE_DIR: /proc"):
        Deadlines(state_folder("", "r")).open()


def test_a_watchdog_is_told_where_its_engine_is_and_nothing_else(tmp_path: Path) -> None:
    engine = set(setting_names(EngineSettings))
    needed = {"PATH": "/bin", "HOME": "/home", "PYTHONPATH": "/lib"}
    others = {*setting_names(RunnerSettings), "VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY"} - engine
    host = tmp_path / "host"
    host.write_text("tcp://engine:2376\n", encoding="ascii")
    given = {"DOCKER_HOST_FILE": str(host), "DOCKER_CERT_PATH": "/certs", "DOCKER_API_VERSION": "1.45"}
    told = environment({**needed, **dict.fromkeys(others, "x"), **given, "DOCKER_TLS_VERIFY": "1"})
    access = {"DOCKER_HOST": "tcp://engine:2376", "DOCKER_CERT_PATH": "/certs", "DOCKER_API_VERSION": "1.45"}
    assert told == {**needed, **access, "DOCKER_TLS_VERIFY": "1"}
    assert Access.of(told) == Access("tcp://engine:2376", "/certs", "1", "1.45")
    assert engine == {field.upper() for field in Access.__struct_fields__}
    assert not engine.intersection(setting_names(Settings))


async def test_no_password_is_in_a_watchdogs_environment(deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STINT_NATS_URL", "nats://user:correct-horse@127.0.0.1:4222")
    async with guarded(deadlines):
        (watchdog,) = _watchdogs(deadlines.folder)
        told = (watchdog / "environ").read_bytes()
    assert b"PATH=" in told
    assert b"correct-horse" not in told
    assert list(_watchdogs(deadlines.folder)) == []


async def test_a_watchdog_that_cannot_be_started_again_is_told_of_once_and_tried_on(
    deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one for which the system has no process left."""
    tries, watching, watched = iter([False, True, True, False]), asyncio.Event(), list[bool]()

    class Process:
        def __init__(self, *_args: object) -> None:
            watched.append(deadlines.watched)
            if next(tries):
                raise BlockingIOError
            if len(watched) > 1:
                watching.set()

        async def ready(self) -> None:
            pass

        async def wait(self) -> int:
            return await asyncio.Event().wait() if watching.is_set() else -9

        def leave(self) -> None:
            pass

        async def stop(self) -> None:
            pass

    monkeypatch.setattr(guard, "_Process", Process)
    monkeypatch.setattr(guard, "RESTART_PAUSE", 0)
    with structlog.testing.capture_logs() as said:
        async with guarded(deadlines):
            await watching.wait()
    assert [line["event"] for line in said] == [
        "watchdog died, starting another",
        "the watchdog does not start, retrying",
    ]
    assert (watched, deadlines.watched) == ([True, False, False, False], True)


async def test_a_watchdog_that_is_told_to_end_ends_well(deadlines: Deadlines) -> None:
    """As by systemd, which tells all processes of a service."""
    process = await guard._start(deadlines.folder, guard.WATCHDOG)  # noqa: SLF001 - a guard would start another
    try:
        (watchdog,) = _watchdogs(deadlines.folder)
        os.kill(int(watchdog.name), signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        await process.stop()


async def test_a_frozen_watchdog_keeps_no_runner_from_its_end(deadlines: Deadlines) -> None:
    async with asyncio.timeout(20), guarded(deadlines):
        for process in _watchdogs(deadlines.folder):
            os.kill(int(process.name), signal.SIGSTOP)
    assert list(_watchdogs(deadlines.folder)) == []


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
async def test_a_watchdog_outlives_its_runner_while_a_job_may_still_run(deadlines: Deadlines) -> None:
    async with asyncio.timeout(20), guarded(deadlines):
        deadlines.put(DEADLINE, boot_time())
    (watchdog,) = _watchdogs(deadlines.folder)
    os.kill(int(watchdog.name), signal.SIGKILL)


async def test_a_watchdog_frozen_at_start_is_given_up(deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch) -> None:
    (deadlines.folder / "freezes.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n")
    monkeypatch.setenv("PYTHONPATH", str(deadlines.folder))
    monkeypatch.setattr(guard, "READY_WITHIN", 0.5)
    with pytest.raises(WatchdogError):
        async with asyncio.timeout(20), guarded(deadlines, "freezes"):
            pass


def _watchdogs(folder: Path) -> Iterator[Path]:
    """Those over a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if bytes(folder) in (process / "cmdline").read_bytes().split(b"\0"):
                yield process


def _of_another(folder: Path) -> None:
    os.chown(folder, 4711, 4711, follow_symlinks=False)


def _link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder another user's")


@pytest.mark.parametrize(
    ("name", "spoils", "fault"),
    [
        ("base/runner", [lambda folder: folder.chmod(0o777)], "Other users may write to"),
        ("base/runner", [_link], "symbolic link"),
        pytest.param("base/runner", [_of_another], "belongs to another user", marks=root_only),
        ("base", [lambda folder: folder.chmod(0o777)], "Other users may write to"),
        pytest.param("base", [_of_another], "belongs to another user", marks=root_only),
        pytest.param("base", [_link, _of_another], "belongs to another user", marks=root_only),
    ],
)
def test_a_folder_that_others_could_change_is_refused(
    tmp_path: Path, name: str, spoils: list[Callable[[Path], None]], fault: str
) -> None:
    folder = tmp_path / "base" / "runner"
    folder.mkdir(parents=True, mode=0o700)
    for spoil in spoils:
        spoil(tmp_path / name)
    with pytest.raises(StateError, match=rf"STINT_STATE_DIR: .*{fault}"):
        Deadlines(folder).open()
    assert not (folder / "lock").exists()


def test_a_folder_that_is_missing_is_made_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert Deadlines(tmp_path / "base" / "runner").open()
    finally:
        os.umask(before)
    assert (tmp_path / "base").stat().st_mode & 0o777 == 0o700


def test_a_folder_may_lie_where_others_can_remove_nothing_or_behind_the_users_own_link(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert Deadlines(tmp_path / "runner").open()
    (tmp_path / "link").symlink_to(tmp_path)
    assert Deadlines(tmp_path / "link" / "another").open()


def test_a_process_is_known_from_a_later_one_of_its_id_and_none_is_killed_for_a_container_that_is_not_there() -> None:
    assert incarnation(os.getpid()) == incarnation(os.getpid())
    assert incarnation(os.getpid()).partition("-")[2] != incarnation(1).partition("-")[2]
    with pytest.raises(ProcessLookupError):
        incarnation(2**22 + 1)
    assert kill_container("f" * 64) == 0
