"""How a service's log looks on a terminal, and what becomes of it where nobody reads it."""

import json
import os
import subprocess
import sys

import pytest

from stint.process.service import BROKER_CLOSED
from tests.support.pipes import fill

_CODE = r"""
import structlog
from stint.process.logs import configure
configure()
structlog.get_logger().info("asked to drain", by="a\x1b[2J\x9b31m\u202e\nb")
"""


def test_what_others_wrote_cannot_move_a_terminals_cursor() -> None:
    ours, theirs = os.openpty()
    subprocess.run([sys.executable, "-c", _CODE], stderr=theirs, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        shown = terminal.read1().decode()
    assert r"'a\x1b[2J\x9b31m\u202e\nb'" in shown
    assert "\x1b[2J" not in shown


_TWICE = """
import sys
import structlog
from stint.process.logs import configure
configure()
for event in ("unread", "unread"):
    structlog.get_logger().info(event)
print("continues", flush=True)
sys.stdin.read()
structlog.get_logger().info("x" * 9000)
"""


def test_a_reader_that_stands_still_stops_nothing_and_learns_what_it_has_missed() -> None:
    reading, writing = os.pipe()
    fill(writing)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _TWICE], stdin=pipe, stdout=pipe, stderr=writing) as service:
        os.close(writing)
        assert service.stdin
        assert service.stdout
        assert service.stdout.readline() == b"continues\n"
        assert set(os.read(reading, 1 << 20)) == set(b".")
        service.stdin.close()
        with os.fdopen(reading, encoding="utf-8") as log:
            said = log.read()
    assert "stint: lines missing from the log here, because nobody read it: 2\n" in said
    assert '"event": "' + "x" * 9000 in said
    assert "unread" not in said


def test_a_reader_that_stands_still_keeps_no_process_from_its_end() -> None:
    reading, writing = os.pipe()
    fill(writing)
    code = "from stint.process import service; service.abandon(service.BrokerClosedError())"
    ended = subprocess.run([sys.executable, "-c", code], stderr=writing, check=False)
    os.close(reading)
    os.close(writing)
    assert ended.returncode == BROKER_CLOSED


_LONG = """
import structlog
from stint.process.logs import configure
configure()
for _ in range(200):
    structlog.get_logger().info("\N{LATIN SMALL LETTER E WITH ACUTE}" * 600)
"""


def test_lines_of_processes_that_share_a_log_stay_whole() -> None:
    reading, writing = os.pipe()
    services = [subprocess.Popen([sys.executable, "-c", _LONG], stderr=writing) for _ in range(2)]
    os.close(writing)
    with os.fdopen(reading, "rb") as log:
        lines = [json.loads(line) for line in log]
    assert [service.wait() for service in services] == [0, 0]
    assert len(lines) == 400


_SERVICE = """
import structlog
from stint.process.service import run
from stint.process.settings import Settings

async def serve(_settings):
    for level in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), level)(f"a line of {level}")

run(Settings, serve)
"""


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("", 3), ("warning", 2), ("error", 1)])
def test_an_operator_chooses_the_least_that_is_logged(level: str, count: int) -> None:
    env = {**os.environ, "STINT_LOG_LEVEL": level}
    done = subprocess.run([sys.executable, "-c", _SERVICE], env=env, capture_output=True, check=True)
    assert done.stderr.count(b"a line of") == count
