"""The recording of a terminal for the README."""

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from html import unescape

import pytest
from scripts.record import COMMANDS, PICTURE, READING, Recording, picture, record, shown

SVG = "{http://www.w3.org/2000/svg}"
SPUN = "\x1b[?25l\u280b waiting\r\x1b[2Krunning on r-1\r\n\u280b running\r\n\r\x1b[1A\x1b[2K\x1b[?25hhello\r\n"


def lines(svg: str) -> list[str]:
    found: dict[float, str] = {}
    for text in ET.fromstring(svg).iter(f"{SVG}text"):  # noqa: S314 - our own
        if text.get("clip-path"):
            y = float(text.attrib["y"])
            found[y] = found.get(y, "") + "".join(text.itertext()).rstrip("\n").replace("\N{NO-BREAK SPACE}", " ")
    return [found[y] for y in sorted(found)]


def test_what_the_spinner_erased_is_not_shown() -> None:
    assert shown(SPUN) == "running on r-1\nhello\n"


def test_a_line_appears_when_it_came_and_nothing_takes_long() -> None:
    recording = Recording()
    for text, passed in (("one\r\ntw", 0.1), ("o\r\n", 0.2), ("three\r\n", 60.0)):
        recording.add(text, passed)
    assert [round(at, 3) for at in recording.seconds] == [0.1, 0.3, round(0.3 + READING, 3)]
    delays = re.findall(r"line-(\d+)\)\"\] { animation-delay: ([\d.]+)s", picture(recording))
    assert delays == [("0", "0.10"), ("1", "0.30"), ("2", f"{0.3 + READING:.2f}")]


def test_commands_run_in_a_terminal_and_are_shown_with_what_they_write() -> None:
    commands = ["test -t 1 && echo 'a <terminal>'", "tput cols; echo last >&2"]
    svg = picture(record(commands, os.environ | {"TERM": "xterm"}))
    assert lines(svg)[:2] == ["$ test -t 1 && echo 'a <terminal>'", "a <terminal>"]
    assert [line for line in lines(svg) if line][-1] == "last"


def test_a_recording_of_a_failure_is_none() -> None:
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        record(["exit 3"], os.environ)


def test_the_picture_shows_the_scripts_commands_whole_and_loads_nothing() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    typed = [line for command in COMMANDS for line in f"$ {command}".splitlines()]
    assert [line for line in lines(svg) if line in typed] == typed
    assert "PASSWORD: ***" in lines(svg)
    addresses = set(re.findall(r"\w+://[^\s\"\x27)]+", unescape(svg)))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "@import" not in svg
    assert "url(#" in svg
    assert re.findall(r"url\((?!#)|href=", svg) == []
