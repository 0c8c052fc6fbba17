"""Subscribers: what `stint subscribe` makes, and the examples that use it, each as a process with its key."""

import asyncio
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from stint.core.names.ids import queue_token
from stint.core.names.subjects import EventAddress
from stint.core.output.chain import Chain
from stint.jetstream import Broker, JetStreamOutput
from tests.support import events
from tests.support.accounts import Accounts, Guarded
from tests.support.brokers import happen
from tests.support.outputs import Writer
from tests.support.servers import running
from tests.support.stack import Result, finished, program, stint
from tests.support.waiting import until, until_true

ROOT = Path(__file__).parents[2]
NAME = "billing"

pytestmark = pytest.mark.timeout(240)
QUEUE, OTHER = queue_token("deploys"), queue_token("other")


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", subscribers=[NAME])


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with accounts.declared(tmp_path / "nats") as server:
        assert (await subscribed(server, "deploys")).code == 0
        yield server


def environ(server: Guarded, user: str = NAME, **settings: str) -> dict[str, str]:
    """Of a program that is this user."""
    return {"NATS_URL": server.url, **server.accounts.environ(user), **settings}


async def subscribed(server: Guarded, *arguments: str, user: str = "operator") -> Result:
    return await stint("subscribe", NAME, *arguments, env=environ(server, user))


@pytest.fixture
async def runner(server: Guarded) -> AsyncIterator[Broker]:
    async with server.connected("runner") as runner:
        yield runner


Example = Callable[..., AbstractAsyncContextManager[Process]]


@pytest.fixture
def example(server: Guarded) -> Example:
    """Starts one, which is killed at the end of the block."""

    def started(name: str, *arguments: str | Path, after: Sequence[str] = ()) -> AbstractAsyncContextManager[Process]:
        command = (sys.executable, "-m", f"examples.{name}", *arguments, NAME, *after)
        return program(*command, cwd=ROOT, env=environ(server), stdout=PIPE)

    return started


async def line(process: Process) -> str:
    """The next line. A message that was on its way to a program that was killed comes again after half a minute."""
    assert process.stdout
    async with asyncio.timeout(90):
        return (await process.stdout.readline()).decode().rstrip()


def new_id() -> str:
    return secrets.token_hex(12)


@pytest.mark.soak
async def test_the_end_and_a_hold_are_told_once_also_after_a_time_away(example: Example, runner: Broker) -> None:
    first, second, third = new_id(), new_id(), new_id()
    async with example("notify") as process:
        await happen(runner, new_id(), events.ended(), token=OTHER)
        await happen(runner, first, events.started(), events.held("runner-7"), events.ended("failed", "killed"))
        assert await line(process) == f"{first} waits for runner-7: bring it back, or `stint release {first}`"
        assert await line(process) == f"{first} failed killed"
        # What follows is received only once what came before has been acknowledged.
        await happen(runner, second, events.ended())
        assert await line(process) == f"{second} success"
    await happen(runner, third, events.ended("unknown", "lost"))
    async with example("notify") as process:
        told = await line(process)
        if told == f"{second} success":  # it was killed before its ack had arrived
            told = await line(process)
        assert told == f"{third} unknown lost"


async def test_what_a_publisher_writes_that_is_no_event_ends_no_example(
    server: Guarded, example: Example, runner: Broker
) -> None:
    job_id = new_id()
    async with server.connected("api") as publisher:
        await publisher.publish(EventAddress("submitted", QUEUE, job_id).subject, b"no JSON")
    await happen(runner, job_id, events.rejected())
    async with example("notify") as process:
        assert await line(process) == f"{job_id} rejected no submission"


@pytest.mark.soak
async def test_output_is_collected_whole_after_a_kill(example: Example, runner: Broker, tmp_path: Path) -> None:
    job_id, folder = new_id(), tmp_path / "collected"
    writer = Writer(JetStreamOutput(runner), QUEUE, job_id)
    await writer.write(b"one\n")
    async with example("collect", folder):
        await until_true((folder / f"{job_id}.parts" / "1").exists)
    await writer.write(b"\xff two\n", "stderr")
    await happen(runner, job_id, writer.counted(events.ended()))
    async with example("collect", folder) as process:
        assert await line(process) == f"{job_id}: 10 bytes of output"
    assert (folder / f"{job_id}.log").read_bytes() == b"one\n\xff two\n"


async def test_output_that_was_removed_meanwhile_is_given_up(example: Example, runner: Broker, tmp_path: Path) -> None:
    removed, following = new_id(), new_id()
    await happen(runner, removed, msgspec.structs.replace(events.ended(), chunks=1, output_digest="0" * 64))
    await happen(runner, following, events.ended())
    async with example("collect", tmp_path / "collected", after=["1"]) as process:
        assert {await line(process), await line(process)} == {
            f"{following}: 0 bytes of output",
            f"{removed}: not all of the output is there",
        }


async def test_output_other_than_was_recorded_is_not_kept(example: Example, runner: Broker, tmp_path: Path) -> None:
    job_id = new_id()
    writer = Writer(JetStreamOutput(runner), QUEUE, job_id)
    await writer.write(b"altered\n")
    ended = msgspec.structs.replace(writer.counted(events.ended()), output_digest="0" * 64)
    await happen(runner, job_id, ended)
    async with example("collect", tmp_path / "collected", after=["1"]) as process:
        assert await line(process) == f"{job_id}: the output is not what the job's runner recorded"
    assert not (tmp_path / "collected" / f"{job_id}.log").exists()


UNDONE = """
import asyncio
from nats.js.client import JetStreamContext
fetch = JetStreamContext.PullSubscription.fetch
async def undone(*arguments, **options):
    try:
        return await fetch(*arguments, **options)
    except asyncio.CancelledError:
        return []
JetStreamContext.PullSubscription.fetch = undone
"""
"""What a message that comes in the moment of a cancellation does to that, in Python 3.11."""


@pytest.mark.soak
async def test_a_full_disk_costs_no_output(server: Guarded, example: Example, runner: Broker, tmp_path: Path) -> None:
    job_id, folder = new_id(), tmp_path / "collected"
    writer = Writer(JetStreamOutput(runner), QUEUE, job_id)
    await writer.write(b"x" * 5000)
    await happen(runner, job_id, writer.counted(events.ended()))
    command = ("prlimit", "--fsize=1024", sys.executable, "-m", "examples.collect", folder, NAME)
    (tmp_path / "sitecustomize.py").write_text(UNDONE)
    options = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tmp_path)}
    full = await finished(*command, cwd=ROOT, env=environ(server, **options))
    assert full == Result(1, "", "[Errno 27] File too large\n")
    assert not (folder / f"{job_id}.parts" / "1").exists()
    async with example("collect", folder) as process:
        assert await line(process) == f"{job_id}: 5000 bytes of output"
    assert (folder / f"{job_id}.log").read_bytes() == b"x" * 5000


async def test_a_chunk_that_is_damaged_may_come_again(
    server: Guarded, example: Example, runner: Broker, tmp_path: Path
) -> None:
    job_id, folder = new_id(), tmp_path / "collected"
    damaged, chain = folder / f"{job_id}.parts" / "1", Chain().add(b"whole")
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"wh")
    await happen(runner, job_id, msgspec.structs.replace(events.ended(), chunks=1, output_digest=chain.digest))
    async with example("collect", folder) as process, server.connected("operator") as operator:
        await until(
            lambda: operator.api(f"CONSUMER.INFO.EVENTS.sub-{NAME}"), lambda consumer: consumer["num_redelivered"]
        )
        await Writer(JetStreamOutput(runner), QUEUE, job_id).write(b"whole")
        assert await line(process) == f"{job_id}: 5 bytes of output"


@pytest.mark.soak
async def test_an_example_says_in_a_sentence_what_is_wrong(server: Guarded) -> None:
    right, job = environ(server), "a" * 24
    cases: list[tuple[Sequence[str | Path], dict[str, str], str]] = [
        (["output", "deploys", "a b"], right, "nats: invalid subject"),
        (["output", "\udcff", job], right, "surrogates not allowed"),
        (["output", "deploys", job], right, "nats: timeout"),  # a subscriber may not read it
        (["notify", NAME], {}, "Set NATS_URL."),
        (["collect", "/dev/null/out", NAME], right, "Not a directory: '/dev/null/out'"),
    ]

    async def said(arguments: Sequence[str | Path], env: dict[str, str]) -> str:
        name, *own = arguments
        ended = await finished(sys.executable, "-m", f"examples.{name}", *own, cwd=ROOT, env=env)
        assert (bool(ended.code), ended.out, "Traceback" in ended.err) == (True, "", False), ended.err
        return ended.err.splitlines()[-1]

    lines = await asyncio.gather(*(said(arguments, env) for arguments, env, _ in cases))
    for found, (_, _, words) in zip(lines, cases, strict=True):
        assert found.endswith(words)


async def test_further_queues_are_added(server: Guarded, example: Example, runner: Broker) -> None:
    before, after = new_id(), new_id()
    await happen(runner, before, events.ended())
    result = await subscribed(server, "deploys", "other")
    assert (result.code, result.err) == (0, "")
    await happen(runner, after, events.ended(), token=OTHER)
    async with example("notify") as process:
        assert [await line(process), await line(process)] == [f"{before} success", f"{after} success"]


async def test_without_streams_it_says_who_makes_them(accounts: Accounts, tmp_path: Path) -> None:
    async with running(server := Guarded(tmp_path / "nats", accounts=accounts)):
        result = await subscribed(server, "deploys")
    assert (result.code, "An API or a projector makes the streams" in result.err) == (125, True), result


@pytest.mark.parametrize("name", ["notify", "collect"])
async def test_ctrl_c_ends_an_example_without_a_traceback(
    server: Guarded, runner: Broker, tmp_path: Path, name: str
) -> None:
    """Python heeds it only if whoever started the tests has not had it ignored."""
    heeding = "import runpy, signal as s; s.signal(s.SIGINT, s.default_int_handler); runpy.run_module('examples.{}')"
    arguments = [NAME] if name == "notify" else [tmp_path / "out", NAME]
    command = (sys.executable, "-c", heeding.format(name), *arguments)
    async with program(*command, cwd=ROOT, env=environ(server), stdout=PIPE, stderr=PIPE) as process:
        await happen(runner, new_id(), events.ended())
        assert await line(process)
        process.send_signal(signal.SIGINT)
        assert await process.communicate() == (b"", b"")
        assert process.returncode == 0


async def test_a_subscription_is_removed_and_what_is_wrong_is_said(server: Guarded) -> None:
    for arguments, user, code, said in (
        (["--remove"], "operator", 0, ""),
        (["--remove"], "operator", 0, ""),
        ([], "operator", 2, "Name the queues"),
        (["a\n"], "operator", 2, "no control characters"),
        (["deploys"], NAME, 125, "NATS"),
    ):
        result = await subscribed(server, *arguments, user=user)
        assert (result.code, said in result.err) == (code, True), result
    async with server.connected("operator") as operator:
        for stream in ("EVENTS", "LOGS"):
            assert (await operator.api(f"CONSUMER.LIST.{stream}"))["total"] == 0
