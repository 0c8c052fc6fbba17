"""The runner's unit under a systemd of its own, in a container."""

import io
import secrets
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.soak

SYSTEMD = Path("/usr/lib/systemd/systemd")
UNIT = Path(__file__).parents[3] / "deploy" / "systemd" / "stint-runner.service"
WATCHDOG = "sleep 471100"
DROP_IN = f"""[Service]
User=root
SupplementaryGroups=
EnvironmentFile=
ExecStart=
ExecStart=/usr/bin/sh -c 'setsid {WATCHDOG} & exec sleep 999999'
"""
"""A runner that starts a watchdog in a session of its own."""
OTHER = "[Service]\nKillMode=mixed\n"

Ask = Callable[..., str]


def _root(*drop_ins: str) -> bytes:
    """A root file system around this machine's /usr."""
    files = {
        "etc/machine-id": "",
        "etc/os-release": "ID=test\n",
        "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
        "etc/group": "root:x:0:\n",
        "etc/systemd/system/stint-runner.service": UNIT.read_text(encoding="utf-8"),
    }
    folder = "etc/systemd/system/stint-runner.service.d"
    files |= {f"{folder}/{number}.conf": text for number, text in enumerate(drop_ins)}
    links = {f"{name}": f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
    links["etc/systemd/system/default.target"] = "/usr/lib/systemd/system/basic.target"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("usr", "proc", "sys", "dev", "run", "tmp", "var", "root", "home"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def _docker(*arguments: str, data: bytes | None = None, check: bool = True) -> str:
    return subprocess.run(["docker", *arguments], input=data, check=check, capture_output=True).stdout.decode().strip()


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Runs a command beside a systemd that has the unit."""
    name = f"stint-systemd-{secrets.token_hex(4)}"
    _docker("import", "-", name, data=_root(DROP_IN, *request.param))
    try:
        options = ["--detach", "--privileged", "--cgroupns=private", "--network=none", "--volume=/usr:/usr:ro"]
        _docker("run", f"--name={name}", *options, "--tmpfs=/run", "--tmpfs=/tmp", name, str(SYSTEMD))
        yield lambda *command: _docker("exec", name, *command, check=False)
    finally:
        _docker("rm", "--force", "--volumes", name, check=False)
        _docker("rmi", name, check=False)


def _until(ask: Ask, what: Callable[[], bool]) -> None:
    end = time.monotonic() + 2 * PATIENCE  # each look starts a process in a container: of a busy machine that is much
    while not what():
        if time.monotonic() > end:
            pytest.fail(f"it does not come: {ask('systemctl', 'status', 'stint-runner')}")


def _started(ask: Ask, *, other_than: str = "") -> str:
    """The runner's process id, once it is another one and has its watchdog."""
    _until(
        ask,
        lambda: ask("systemctl", "show", "--property=MainPID", "--value", "stint-runner") not in {"", "0", other_than},
    )
    main = ask("systemctl", "show", "--property=MainPID", "--value", "stint-runner")
    _until(ask, lambda: bool(ask("pgrep", "--parent", main)))
    return main


def _watchdogs(ask: Ask) -> set[str]:
    return set(ask("pgrep", "--full", f"^{WATCHDOG}").split())


@pytest.mark.skipif(not SYSTEMD.exists() or not Path("/bin").is_symlink(), reason="no systemd here")
@pytest.mark.parametrize(("ask", "lives"), [((), True), ((OTHER,), False)], indirect=["ask"], ids=["unit", "mixed"])
def test_a_watchdog_outlives_its_runner(ask: Ask, lives: bool) -> None:
    _until(ask, lambda: ask("systemctl", "is-system-running", "--wait") in {"running", "degraded"})
    ask("systemctl", "start", "stint-runner")
    first = _started(ask)
    _until(ask, lambda: len(_watchdogs(ask)) == 1)  # the runner's child becomes it
    old = _watchdogs(ask)
    ask("kill", "-KILL", first)
    second = _started(ask, other_than=first)
    assert (old <= _watchdogs(ask)) is lives
    ask("systemctl", "stop", "stint-runner")
    assert second not in ask("pgrep", "--full", "sleep 999999").split()
    assert (old <= _watchdogs(ask)) is lives
