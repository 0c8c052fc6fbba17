"""What commands show: tables, times and timelines, without a server."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from stint.cli.app import app
from stint.cli.calling import _completing
from stint.cli.errors import reported
from stint.cli.fleet.events import MISSED, Board, lines, tell
from stint.cli.jobs import history
from stint.cli.jobs.history import timeline
from stint.cli.jobs.interrupts import Interrupts
from stint.cli.jobs.run import Narrator
from stint.cli.show.form import Column, as_json, show, show_change, table
from stint.cli.show.terminal import lasted, moment, sentences
from stint.client import (
    ApiRefusedError,
    ApiUnreachableError,
    Client,
    Fact,
    JobChange,
    JobEvent,
    JobHandle,
    JobInfo,
    JobResult,
    QueueInfo,
)
from stint.core.errors import ConfigError, StintError
from stint.core.names.ids import QUEUE_NAME_MAX_BYTES

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COLUMNS = (
    Column[tuple[str, str]]("ID", lambda row: row[0], firm=True),
    Column[tuple[str, str]]("NAME", lambda row: row[1]),
)


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (None, ["ID  NAME", "aa  a long name, 円円", "b   x"]),
        (16, ["ID  NAME", "aa  a long name…", "b   x"]),
        (19, ["ID  NAME", "aa  a long name,  …", "b   x"]),  # a wide character is not halved
        (1, ["ID  NAME", "aa  a lon…", "b   x"]),  # a column is not narrower than six cells
    ],
)
def test_a_table_is_as_wide_as_it_may_be(width: int | None, lines: list[str]) -> None:
    shown = table([("aa", "a long name, 円円"), ("b", "x")], COLUMNS, width=width)
    assert shown == lines
    assert width is None or width < 10 or max(map(cell_len, shown)) <= width
    assert table([], COLUMNS, width=width) == lines[:1]


def test_a_name_cannot_move_the_cursor() -> None:
    assert table([("a", "x\x1b[2J\ny")], COLUMNS, width=None)[1] == "a   x\ufffd[2J y"


@pytest.mark.parametrize("arguments", ["show {}", "kill {}", "submit --job-json {}"])
def test_an_error_repeats_no_more_than_the_beginning_of_what_is_far_too_long(arguments: str) -> None:
    given = arguments.format("x" * 100_000).split()
    result = CliRunner().invoke(app, given, env={"STINT_TOKEN": "t", "VAULT_ADDR": "http://127.0.0.1:1"})
    assert (result.exit_code, f"{'x' * 900}" in result.output, len(result.output) < 1300) == (2, True, True)


def test_the_longest_name_of_a_queue_is_whole_in_a_sentence() -> None:
    sentence = f"Queue {'x' * QUEUE_NAME_MAX_BYTES!r} is paused."
    assert sentences(sentence) == sentence


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (2 * 86400, "2d")]
)
def test_a_duration_has_one_unit(seconds: float, shown: str) -> None:
    assert lasted(NOW - timedelta(seconds=seconds), NOW) == shown
    assert lasted(None) == "-"


def test_a_time_is_rfc_3339_or_a_duration() -> None:
    assert moment("--since", "2026-01-02T03:04:05Z") == moment("--since", "2026-01-02t03:04:05z") == NOW
    assert timedelta(hours=11.9) < datetime.now(UTC) - moment("--since", "12h") < timedelta(hours=12.1)
    with pytest.raises(ConfigError, match="--since: not a time"):
        moment("--since", "yesterday")


def test_a_timeline_names_the_gaps() -> None:
    kinds = (("submitted", 0), ("started", 2.5), ("launched", 3), ("kill_requested", 10), ("ended", 11.25))
    facts = [Fact(kind=kind, at=NOW + timedelta(seconds=at), by="ann", runner="r1", image="i") for kind, at in kinds]
    result = JobResult(id="", status="failed", reason="killed")
    assert [" ".join(line.split()) for line in timeline(facts, result)] == [
        "2026-01-02 03:04:05.000 submitted by ann",
        "2.500 s waited in its queue",
        "2026-01-02 03:04:07.500 started on r1",
        "0.500 s was prepared: its secrets, its image, its container",
        "2026-01-02 03:04:08.000 launched i, container",
        "7.000 s ran",
        "2026-01-02 03:04:15.000 kill_requested by ann",
        "1.250 s was being stopped",
        "2026-01-02 03:04:16.250 ended failed (killed)",
    ]
    assert timeline(facts[:3], None)[-1].strip() == "runs"


class Slow(JobHandle):
    """A job that is over, whose events come one by one."""

    def __init__(self) -> None:
        self.id = "0" * 24

    async def info(self) -> JobInfo:
        return JobInfo(id=self.id, status="success", ended=NOW)

    async def stream(self, *, tail: int | None = None) -> AsyncGenerator[JobEvent, None]:
        assert tail == 0
        for kind in ("submitted", "started", "launched", "ended"):
            yield Fact(kind=kind, at=NOW)
            for _ in range(3):
                await asyncio.sleep(0)
        yield JobResult(id=self.id, status="success")


async def test_the_history_of_a_job_that_is_over_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "QUIET", 0)
    facts, result = await history._read(Slow())  # noqa: SLF001 - the command connects by itself
    assert (len(facts), bool(result)) == (4, True)


def test_names_of_changes_are_ids_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    tell(JobChange(kind="missed"), "name")
    tell(JobChange(kind="gone", id="a" * 24, queue="q"), "name")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("a" * 24 + "\n", f"stint: {MISSED}\n")


def _told_by_the_narrator(text: str) -> None:
    console = Console(stderr=True)
    Narrator(console, quiet=False).end(JobResult(id=text, status=text, reason=text, error=text))
    Interrupts(console).say(text)


def _reported(text: str) -> None:
    with pytest.raises(typer.Exit), reported("stint"):
        raise ConfigError(text)


def test_a_board_that_has_no_room_for_all_queues_shows_the_held_and_the_running_ones() -> None:
    held, running = QueueInfo(name="stuck", held=True), QueueInfo(name="busy", running="0" * 24)
    queues = [*(QueueInfo(name=f"long-{number}", depth=9) for number in range(20)), running, held]
    shown = lines(Board(queues, (), (), {}), width=80, height=15)
    assert [line.split()[0] for line in shown[2:6]] == ["QUEUE", "stuck", "busy", "long-0"]


class Doomed(JobHandle):
    """A job whose kill is answered like this, one answer a request; the last one again and again."""

    def __init__(self, *answers: StintError | None) -> None:
        self.id = "a" * 24
        self.answers, self.asked, self.killed = [*answers], asyncio.Event(), asyncio.Event()

    async def kill(self) -> None:
        self.asked.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer:
            raise answer
        self.killed.set()


AWAY = ApiUnreachableError("It is away.")
GONE = ApiRefusedError("Stint has no such job.", 404)
STOPPING = "stint: stopping the job; Ctrl-C again exits at once\nstint: It is away.\n"
MAY_RUN = f"job {'a' * 24} may still run\n"


async def terminated(job: Doomed, then: Callable[[Interrupts], Awaitable[int]]) -> int:
    interrupts = Interrupts(Console(stderr=True, width=200))

    async def work() -> int:
        interrupts.may_have_a_job()
        interrupts.kills(job)
        interrupts.interrupt(signal.SIGTERM)
        await job.asked.wait()
        return await then(interrupts)

    return await interrupts.around(work())


async def test_a_kill_is_requested_until_stint_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stint.cli.jobs.interrupts._PAUSE", 0)
    job = Doomed(AWAY, AWAY, None)

    async def follow(_: Interrupts) -> int:
        await job.killed.wait()
        return 9

    async with asyncio.timeout(10):
        assert await terminated(job, follow) == 9
    assert capsys.readouterr().err == STOPPING


async def test_who_leaves_before_an_answer_is_told_that_the_job_may_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def leave(interrupts: Interrupts) -> int:
        interrupts.interrupt(signal.SIGTERM)
        return await asyncio.Event().wait()

    async def give_up(_: Interrupts) -> int:
        raise AWAY

    assert await terminated(Doomed(AWAY), leave) == 143
    assert capsys.readouterr().err == f"{STOPPING}stint: Stint has not answered: {MAY_RUN}"
    with pytest.raises(ApiUnreachableError):
        await terminated(Doomed(AWAY), give_up)
    assert capsys.readouterr().err == f"{STOPPING}stint: Stint has not answered: {MAY_RUN}"


@pytest.mark.parametrize(("error", "said"), [(AWAY, f"{MAY_RUN[:-1]}: stint logs -f {'a' * 24}\n"), (GONE, "")])
async def test_only_a_job_that_is_there_may_still_run(
    capsys: pytest.CaptureFixture[str], error: StintError, said: str
) -> None:
    interrupts = Interrupts(Console(stderr=True, width=200))

    async def work() -> int:
        interrupts.kills(Doomed(None))
        raise error

    with pytest.raises(type(error)):
        await interrupts.around(work())
    assert capsys.readouterr().err.removeprefix("stint: ") == said


async def test_a_kill_that_is_refused_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def end(_: Interrupts) -> int:
        return 3

    assert await terminated(Doomed(ApiRefusedError("It is away.", 403)), end) == 3
    assert capsys.readouterr().err == f"{STOPPING}stint: {MAY_RUN}"


SHOWN: Sequence[Callable[[str], None]] = (
    _reported,
    _told_by_the_narrator,
    lambda text: tell(JobChange(kind="job", queue=text, job=JobInfo(id="", status="failed", reason=text)), "table"),
    lambda text: show_change("text", "", text=f"Job {text}.", fields=None),
    *(partial(lambda form, text: show(Fact(kind=text, at=NOW), form, name=str), form) for form in ("table", "json")),
    lambda text: show_change("json", "", text="", fields={"a": text}),
    lambda text: tell(JobChange(kind="gone", queue=text), "json"),
    lambda text: typer.echo("\n".join(lines(Board((), (), (), {text: 1}), width=None, height=None))),
)


@pytest.mark.parametrize("tell_of", SHOWN)
def test_nothing_that_somebody_wrote_reaches_a_terminal_as_a_command(
    tell_of: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    tell_of("a\x07\x9b31m\r\u202eb \U000e0001\nc")
    said = capsys.readouterr()
    assert "b " in said.out + said.err
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))


def test_json_says_the_same_although_it_is_escaped() -> None:
    text = "a\x07\x9b31m\u202eb\n\U000e0001\\u0007 円"
    assert json.loads(as_json({"a": text})) == {"a": text}
    assert "円" in as_json(text).decode()


def test_a_shell_gets_only_names_that_it_takes_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = ["deploys", "Größe", "a/b.c:d@e=f,g+h%i_j-k"]
    others = ["", "a b", "$(x)", "a;x", "~", "-o", "=ls", "a|x", "{a,b}", "a\\", *"`*'\"#!&<>()"]
    monkeypatch.setenv("STINT_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("STINT_TOKEN", "t")

    async def ask(_stint: Client, _incomplete: str) -> list[tuple[str, str]]:
        return [(name, "running $(x)") for name in plain + others]

    assert _completing(ask)("") == [(name, "running ??x?") for name in plain]
    assert _completing(ask)("d") == [("deploys", "running ??x?")]
