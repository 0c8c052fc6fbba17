"""Records commands in a terminal, on servers of its own, for the README: `python -m scripts.record`.

Writes `docs/images/terminal.svg`, in which each line appears when it did in the terminal, and which loads nothing.
"""

import asyncio
import os
import pty
import re
import subprocess
import sysconfig
import tempfile
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from stint.cli.dev.command import run_stack
from stint.cli.dev.stack import Stack

PICTURE: Final = Path(__file__).parents[1] / "docs" / "images" / "terminal.svg"
WIDTH: Final = 92
HEIGHT: Final = 24
COMMANDS: Final = (
    r"""stint run --queue deploys --image busybox \
    --secret PASSWORD@kv/data/demo.password --mask-secrets \
    -- sh -c 'tail -1 /secrets.yml; for n in 1 2 3; do sleep 1; echo step $n of 3; done'""",
    "stint run --queue deploys --image busybox --detach -- sleep 60",
    "stint run --queue deploys --image busybox --detach -- sleep 60",
    "stint run --queue backups --image busybox --detach -- sleep 60",
    "stint ls",
    "stint queues",
)
"""As bash reads them. The detached jobs run, or wait, while they are listed."""
PROMPT: Final = "\x1b[1;32m$\x1b[0;1m {}\x1b[0m\n"
READING: Final = 0.7
"""Seconds between a command and its output, and at most between two lines."""
ERASED: Final = re.compile(r"[^\n]*(?:\n\r\x1b\[1A|\r)\x1b\[2K")
"""What the spinner showed: text, and the codes that erase it."""
CONTROL: Final = re.compile(r"\x1b\[\?\d+[hl]")
"""Codes that hide and show the cursor."""

GROUND: Final = (14, 17, 22)
TEXT: Final = (231, 234, 238)
RED: Final = (255, 128, 120)
GREEN: Final = (92, 194, 129)
YELLOW: Final = (217, 180, 74)
BLUE: Final = (116, 171, 255)
MAGENTA: Final = (183, 155, 255)
CYAN: Final = (86, 200, 216)
THEME: Final = TerminalTheme(GROUND, TEXT, [GROUND, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, TEXT])
"""The colours of the page's dark theme (docs/design.md)."""
SVG: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px / {line_height}px ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }}
.{unique_id}-title {{ font: 16px system-ui, sans-serif; }}
{styles}
@keyframes appear {{ from {{ visibility: hidden; }} }}
@media (prefers-reduced-motion: no-preference) {{
.{unique_id}-matrix text {{ animation: appear 1ms backwards; }}
DELAYS
}}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


@dataclass
class Recording:
    """What a terminal showed: the text as it was written, and for each line the seconds when it was there."""

    text: str = ""
    seconds: list[float] = field(default_factory=list)
    _at: float = field(default=0.0, init=False)

    def add(self, text: str, passed: float) -> None:
        """Text that came so many seconds after the one before it."""
        self._at += min(passed, READING)
        self.text += text
        complete = shown(self.text).count("\n")
        self.seconds += [self._at] * (complete - len(self.seconds))


def shown(text: str) -> str:
    """What remains on the screen, with its colours."""
    return ERASED.sub("", CONTROL.sub("", text.replace("\r\n", "\n")))


def picture(recording: Recording) -> str:
    """The recording as SVG."""
    name = "terminal"
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, color_system="truecolor", legacy_windows=False)
        console.print(Text.from_ansi(shown(recording.text)), no_wrap=True, overflow="ignore")
    delays = "\n".join(
        f'.{name}-matrix text[clip-path="url(#{name}-line-{number})"] {{{{ animation-delay: {at:.2f}s; }}}}'
        for number, at in enumerate(recording.seconds)
    )
    form = SVG.replace("DELAYS", delays)
    return console.export_svg(title="stint", theme=THEME, code_format=form, font_aspect_ratio=0.6, unique_id=name)


def record(commands: Sequence[str], environment: Mapping[str, str]) -> Recording:
    """Run the commands, one after another, each in a terminal. Raises CalledProcessError if one fails."""
    recording = Recording()
    for command in commands:
        recording.add(PROMPT.format(command), READING)
        _run(command, environment, recording)
    return recording


def _run(command: str, environment: Mapping[str, str], recording: Recording) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (HEIGHT, WIDTH))
    process = subprocess.Popen(["bash", "-c", command], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    decoder = getincrementaldecoder("utf-8")()
    before = time.monotonic()
    while part := _read(ours):
        now = time.monotonic()
        recording.add(decoder.decode(part), now - before)
        before = now
    os.close(ours)
    if code := process.wait():
        raise subprocess.CalledProcessError(code, command)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


def main() -> None:
    """Record the commands on a stack that starts for them."""

    async def work(stack: Stack) -> None:
        environment = {"PATH": f"{sysconfig.get_path('scripts')}:{os.defpath}", "TERM": "xterm-256color", "HOME": home}
        recording = await asyncio.to_thread(record, COMMANDS, {**environment, "LANG": "C.UTF-8", **stack.settings})
        PICTURE.write_text(picture(recording), encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="stint-record-") as home:
        run_stack("record", Path(home, "data"), work, runners=2, stopped=130)


if __name__ == "__main__":
    main()
