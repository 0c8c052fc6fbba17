"""Tools of the repository: its benchmarks, and what its tests use."""

import base64
import platform
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.document import DOCUMENT, Record, Run, generated, read
from benchmarks.measure import Measured, Row

from tests.support import no_netlink
from tests.support.leaks import Leak, Scanner

SECRET, OTHER = secrets.token_hex(16).encode(), secrets.token_hex(16).encode()
SCANNER = Scanner({"secret": [SECRET], "other": [OTHER]})

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "hex": lambda data: data.hex().encode(),
    "HEX": lambda data: data.hex().upper().encode(),
    "base64": base64.b64encode,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("before", [b"", b"1", b"12", b"x" * 2**20, b"x" * (2**20 - 7)])
@pytest.mark.parametrize("behind", [b"", b"1", b"12"])
def test_it_finds_a_secret_in_a_file(encoding: str, before: bytes, behind: bytes, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "leak").write_bytes(ENCODINGS[encoding](before + SECRET + behind))
    (tmp_path / "deep" / "nothing").write_bytes(SECRET[:-1] + b" " + SECRET[1:])
    (tmp_path / "deep" / "empty").touch()
    assert set(SCANNER.files(tmp_path)) == {Leak("secret", str(tmp_path / "deep" / "leak"))}


def test_it_leaves_out_what_it_is_told_and_what_is_older(tmp_path: Path) -> None:
    leak = tmp_path / "leak"
    leak.write_bytes(SECRET + OTHER)
    assert {leak.kind for leak in SCANNER.files(tmp_path)} == {"secret", "other"}
    assert not set(SCANNER.files(tmp_path, without=[leak]))
    assert not set(SCANNER.files(tmp_path, since=leak.stat().st_ctime + 1))


def test_a_file_may_be_cut_short_and_folders_may_go_meanwhile(tmp_path: Path) -> None:
    """A file that is mapped into memory would end this process."""
    leak = tmp_path / "leak"
    leak.write_bytes(SECRET + bytes(2**22) + OTHER)
    found = SCANNER.files(tmp_path)
    assert next(found).kind == "secret"
    leak.write_bytes(b"")
    assert not set(found)
    assert not set(SCANNER.files(tmp_path / "gone"))


def test_it_finds_a_secret_in_a_process() -> None:
    wait = [sys.executable, "-c", "input(1)"]
    environ, pipe = {"A": OTHER.decode()}, subprocess.PIPE
    with subprocess.Popen([*wait, SECRET], env=environ, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.read(1)  # right behind its exec a process has no arguments yet
        found = set(SCANNER.processes())
        process.communicate(b"\n")
    assert found == {Leak("secret", "/proc/PID/cmdline"), Leak("other", "/proc/PID/environ")}
    assert not set(SCANNER.processes())


ASKS = """
import errno, socket
socket.socket().close()
try:
    socket.socket(socket.AF_NETLINK)
except OSError as error:
    print(errno.errorcode[error.errno])
"""
IN_A_CHILD = """import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}, reason="the filter is for these"
)
def test_a_program_and_its_children_get_no_netlink_socket_and_all_others() -> None:
    command = [sys.executable, no_netlink.__file__, sys.executable, "-c", IN_A_CHILD, ASKS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "EAFNOSUPPORT\n"


@pytest.mark.parametrize("record", Record)
def test_recorded_rows_have_names_of_their_own(record: Record) -> None:
    names = [row.name for row in read(record.path).rows]
    assert len(names) == len(set(names))


def test_the_document_is_what_the_recorded_runs_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == generated()


def test_a_run_replaces_whole_groups_of_the_same_machine() -> None:
    row = Row("a", Measured("Stint", "ms", [1.0]))
    run = Run("here", {"api": [row], "peers": "No Redis."})
    assert run.rows == [row]
    assert run.updated(Run("here", {"peers": [row]})) == Run("here", {"api": [row], "peers": [row]})
    assert run.updated(Run("there")) == Run("there")
