"""Commands that show and follow: on terminals, narrow ones too, and in pipes that somebody closes."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

import msgspec
import pytest
from rich.cells import cell_len

from stint.client import Client
from stint.core.names.ids import queue_token
from tests.support import events
from tests.support.api_bench import secret
from tests.support.client_bench import Bench, opened
from tests.support.ports import free_port
from tests.support.servers import NatsProcess, OpenBao
from tests.support.stack import STINT
from tests.support.terminals import PATIENCE, ROWS, Terminal, unread
from tests.support.waiting import until, until_true

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
HOME = "\x1b[H"
"""What a board begins with."""
NARROW = 40
RUNNER = "lone-1"


class Scene(NamedTuple):
    """A queue with a job that has ended, one that runs, and one that waits."""

    bench: Bench
    stint: Client
    queue: str
    ended: str
    running: str
    waiting: str

    @property
    def jobs(self) -> tuple[str, ...]:
        return self.ended, self.running, self.waiting

    def arguments(self, name: str) -> tuple[str, ...]:
        """How each command is called here."""
        of_job = {
            "history": (self.ended,),
            "logs": ("-f", self.running),
            # What it says of the first shows that it waits for the second.
            "wait": (self.ended, self.running),
            "events": ("--queue", self.queue),
            "ls": ("--queue", self.queue),
            "audit": ("--queue", self.queue),
            "pause": (self.queue, "--reason", "a test"),
            "resume": (self.queue,),
            "drain": (RUNNER,),
        }
        return name, *of_job.get(name, ())

    async def report(self, **more: object) -> None:
        """Say that the runner is alive, which counts for half a minute, and wait until the API knows it."""
        report = {"capacity": 4, "started": events.AT, "version": "1.0", **more}
        await self.bench.runner(RUNNER, msgspec.json.encode(report))
        await until(self.stint.runners, lambda found: any(runner.alive for runner in found))


@pytest.fixture(scope="module")
async def scene(nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with opened(tmp_path_factory.mktemp("api"), nats, openbao) as bench, Client.connect(bench.where) as stint:
        queue = f"{'円' * 20}{secret().lower()}-is-wider-than-the-terminal"  # a 円 takes two cells
        jobs = [(await stint.submit(queue=queue, image="busybox")).id for _ in range(3)]
        scene = Scene(bench, stint, queue, *jobs)
        await bench.run(queue, scene.ended, b"over\n", 3)
        await bench.log.append(queue_token(queue), scene.running, events.started(RUNNER))
        await bench.write(queue, scene.running, b"hello\n")
        await bench.project(*jobs)
        await scene.report()
        await until(lambda: stint.queue(queue), lambda found: found.running == scene.running and found.depth == 1)
        await until(lambda: _audited(stint, queue), lambda found: found == len(jobs))
        yield scene


async def _audited(stint: Client, queue: str) -> int:
    return len([entry async for entry in stint.audit(queue=queue)])


async def board(shown: Terminal, columns: int) -> list[str]:
    """The lines of the last board that was drawn for this width, once it is whole."""
    lines: list[str] = []
    while len(lines) < ROWS or {cell_len(line) for line in lines} != {columns}:
        await shown.more()
        lines = COLOUR.sub("", shown.shown.rpartition(HOME)[2]).split("\r\n")
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize("name", ["queues", "runners", "audit", "history", "top"])
async def test_a_pipe_gets_whole_lines_without_colour(scene: Scene, name: str) -> None:
    await scene.report()
    result = await scene.bench.command(*scene.arguments(name))
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    assert "…" not in result.out
    wanted = {"queues": scene.queue, "runners": RUNNER, "audit": scene.queue, "history": "3", "top": scene.queue}
    assert wanted[name] in result.out


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "NO_COLOR"])
@pytest.mark.parametrize("name", ["ls", "queues", "runners", "audit", "history"])
async def test_on_a_narrow_terminal_names_are_cut_and_ids_are_whole(scene: Scene, name: str, *, colour: bool) -> None:
    await scene.report()
    settings = {} if colour else {"NO_COLOR": "1"}
    async with scene.bench.terminal(*scene.arguments(name), columns=NARROW, **settings) as shown:
        assert await shown.ended() == 0
    text = COLOUR.sub("", shown.shown)
    assert (text != shown.shown) == (colour and name in {"ls", "queues", "runners"})
    assert "\x1b" not in text
    assert scene.queue not in text
    ids = {"ls": scene.jobs, "queues": [scene.running], "runners": ["1/4"], "audit": scene.jobs, "history": ["c" * 12]}
    assert [found for found in ids[name] if found not in text] == []


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "NO_COLOR"])
async def test_a_board_fits_its_terminal_also_when_that_is_resized(scene: Scene, *, colour: bool) -> None:
    """No change and no passing of time draws it anew here."""
    await scene.report()
    settings = {} if colour else {"NO_COLOR": "1"}
    async with scene.bench.terminal("top", "--interval", "600", columns=120, **settings) as shown:
        boards = [await board(shown, 120)]
        assert (COLOUR.search(shown.shown) is not None) == colour
        for columns in (NARROW, 120):
            shown.resize(columns)
            boards.append(await board(shown, columns))
        shown.press("\x03")
        assert await shown.ended() == 0
    of_jobs = [*reversed(scene.jobs)]
    for lines in boards:
        first, *words = [line.split()[0] for line in lines if line]
        assert (first, words[0], words[2:]) == ("1", "QUEUE", ["RUNNER", RUNNER, "ID", *of_jobs]), "no line is wrapped"


async def test_a_board_on_a_terminal_that_cannot_move_its_cursor_is_printed_once(scene: Scene) -> None:
    async with scene.bench.terminal("top", columns=120, TERM="dumb") as shown:
        assert await shown.ended() == 0
    assert scene.queue in shown.shown
    assert "\x1b" not in shown.shown


async def test_a_narrow_board_says_in_a_whole_sentence_why_it_is_empty(scene: Scene) -> None:
    nowhere = {"STINT_URL": f"http://127.0.0.1:{free_port()}"}
    said = (await scene.bench.command("queues", settings=nowhere)).err.removeprefix("stint: ")
    async with scene.bench.terminal("top", columns=NARROW, **nowhere) as shown:
        assert " ".join(await board(shown, NARROW)).split() == said.split()
        shown.press("\x03")
        assert await shown.ended() == 0


async def test_changes_to_queues_and_runners_are_told_in_words(scene: Scene) -> None:
    said = {
        "pause": f"Queue {scene.queue!r} is paused; 1 job waits.",
        "resume": f"Queue {scene.queue!r} continues; 1 job waits.",
        "drain": f"Runner {RUNNER} was asked to drain; `stint runners` shows when it does.",
    }
    for name, text in said.items():
        await scene.report()
        result = await until(partial(scene.bench.command, *scene.arguments(name)), lambda found: found.code == 0)
        assert (result.out, result.err) == (f"{text}\n", "")
        async with scene.bench.terminal(*scene.arguments(name), columns=NARROW) as shown:
            assert await shown.ended() == 0
        assert shown.shown == f"{text}\r\n"
    await scene.report(draining=True)
    await until(partial(scene.bench.command, "runners"), lambda found: "draining" in found.out)


async def begun(shown: Terminal, scene: Scene, name: str) -> None:
    """Wait until a command that follows something does so."""

    async def told() -> bool:
        """Changes that come before the stream begins are not told."""
        await scene.bench.project(scene.running)
        return shown.reads(f"{scene.running}  {scene.queue}  ")

    if name == "events":
        await until(told)
    else:
        await shown.until({"top": scene.running, "logs": "hello", "wait": "failed (3)"}[name])


@pytest.mark.parametrize(
    ("name", "sent", "code"),
    [
        *((name, signal.SIGINT, 130) for name in ("logs", "events", "wait")),
        *((name, signal.SIGTERM, 143) for name in ("logs", "events", "wait")),
        ("top", signal.SIGINT, 0),
        ("top", signal.SIGTERM, 143),
    ],
)
async def test_a_signal_ends_it_and_resets_the_terminal(
    scene: Scene, name: str, sent: signal.Signals, code: int
) -> None:
    async with scene.bench.terminal(*scene.arguments(name), columns=NARROW) as shown:
        await begun(shown, scene, name)
        if sent is signal.SIGINT:
            shown.press("\x03")
        else:
            shown.process.send_signal(sent)
        assert await shown.ended() == code
    assert "Traceback" not in shown.shown
    for taken, given in (("\x1b[?25l", "\x1b[?25h"), ("\x1b[?1049h", "\x1b[?1049l")):
        assert (taken in shown.shown) == (name == "top")
        assert shown.shown.rfind(given) >= shown.shown.rfind(taken)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_what_nobody_reads(scene: Scene, sent: signal.Signals, code: int) -> None:
    """Its output fills the pipe, and it waits for a reader."""
    environment, queue = scene.bench.environment(), secret().lower()
    job = (await scene.stint.submit(queue=queue, image="busybox")).id
    await scene.bench.write(queue, job, b"x" * 500_000)
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        STINT, "logs", "-f", job, env=environment, stdout=writing, stderr=PIPE
    )
    os.close(writing)
    try:
        await until_true(lambda: unread(reading) >= 65536)
        process.send_signal(sent)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
    finally:
        os.close(reading)
    assert (128 - (process.returncode or 0), err) == (code, b"")


@pytest.mark.parametrize("name", ["top", "queues", "pause", "resume", "logs", "wait", "events", "history"])
async def test_a_reader_that_has_left_is_no_news(scene: Scene, name: str) -> None:
    """As `head` leaves, which may be before the first line."""
    await scene.report()
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        STINT, *scene.arguments(name), env=scene.bench.environment(), stdout=writing, stderr=PIPE
    )
    os.close(writing)

    async def over() -> bool:
        if name == "events":
            await scene.bench.project(scene.running)
        return process.returncode is not None

    await until(over)
    _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"")
