import asyncio
import fcntl
import hashlib
import io
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stint.cli.jobs.interrupts import Interrupts
from stint.cli.jobs.options import RunOptions
from stint.cli.jobs.run import run_job
from stint.client import Client, Endpoints
from stint.core.codec import encode
from stint.core.job import Job
from stint.core.names.headers import CHUNK_DIGEST, CHUNK_NUMBER, CHUNK_OFFSET, CHUNK_STREAM
from stint.core.names.subjects import EventAddress, live_filter, tail_subject
from stint.core.submission.payload import JobPayload, parse_payload
from stint.jetstream import JetStreamPayloads
from stint.vault import Vault, open_ticket
from stint.vault.setup import client_token
from tests.support import events, terminals
from tests.support.api_bench import api_process, secret
from tests.support.brokers import connected, loaded
from tests.support.client_bench import Bench, opened
from tests.support.outputs import Played
from tests.support.ports import free_port
from tests.support.relay import Relay
from tests.support.servers import NatsProcess, OpenBao
from tests.support.stack import Result, finished, program
from tests.support.submissions import submitted
from tests.support.vault_bench import ROLE
from tests.support.waiting import until, until_true


@dataclass
class Shown:
    chunks: list[tuple[str, bytes]] = field(default_factory=list)
    text: io.StringIO = field(default_factory=io.StringIO)
    wrote: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, stream: str, data: bytes) -> None:
        self.chunks.append((stream, data))
        self.wrote.set()

    async def writes(self) -> None:
        async with asyncio.timeout(30):
            await self.wrote.wait()

    async def run(self, job: JobPayload, where: Endpoints, *, detach: bool = False) -> int:
        interrupts = Interrupts(Console(file=self.text, width=200))
        return await run_job(job, where, RunOptions(detach=detach), interrupts, self.write)


class Taken(Played):
    """A job whose runner the test plays."""

    def __init__(self, bench: Bench, job: Job) -> None:
        super().__init__(bench.broker, job.token, job.job_id)
        self._broker, self._job = bench.broker, job

    async def open(self, openbao: OpenBao) -> tuple[JobPayload, str]:
        """The payload, and the secret id, which this spends."""
        vault, root, event = Vault(openbao.address), openbao.root_token, submitted(self._job)
        ticket = await open_ticket(vault, root, event.ticket, queue_token=self.token, job_id=self.job_id)
        payloads = JetStreamPayloads(self._broker)
        sealed = await payloads.get(self.token, self.job_id, event.payload_chunks, attempt=event.payload_try)
        assert hashlib.sha256(sealed).hexdigest() == ticket.payload_sha256
        info = await vault.wrap_info(ticket.wrap_secret_id)
        assert info.creation_path == f"auth/approle/role/{ROLE}/secret-id"
        payload = parse_payload(await vault.decrypt(root, ROLE, sealed.decode()))
        return payload, await vault.unwrap_secret_id(ticket.wrap_secret_id)


async def take(bench: Bench, queue: str) -> Taken:
    """The queue's job."""
    return Taken(bench, await loaded(bench.log, await until(lambda: bench.job_of(queue))))


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    # The runner that a test plays opens payloads without keys of their own, which `test_erasure` shows.
    async with opened(tmp_path_factory.mktemp("api"), nats, openbao, STINT_ERASURE="off") as bench:
        yield bench


def asking(**fields: Any) -> JobPayload:
    return JobPayload(qname=secret().lower(), container_image="busybox", **fields)


async def test_a_large_payload_is_sent_along_and_a_small_one_fetched(bench: Bench, openbao: OpenBao) -> None:
    async with Client.connect(bench.where) as stint:
        assert set((await stint.seal(asking())).fields) == {"qname", "wrap_secret_id", "cubby_token", "cubby_path"}
    wanted = asking(content="targz," + "x" * (1 << 20))
    shown = Shown()
    assert await shown.run(wanted, bench.where, detach=True) == 0
    job = await take(bench, wanted.qname)
    assert shown.chunks == [("stdout", f"{job.job_id}\n".encode())]
    assert (await job.open(openbao))[0] == wanted


@pytest.mark.soak
async def test_a_broken_stream_is_taken_up_where_it_broke(
    bench: Bench, nats: NatsProcess, openbao: OpenBao, tmp_path: Path
) -> None:
    async with api_process(tmp_path / "api", nats.url, openbao) as (server, _):
        where = replace(bench.where, url=server.url)
        wanted, shown = asking(), Shown()
        going = asyncio.create_task(shown.run(wanted, where))
        job = await take(bench, wanted.qname)
        await job.begin(("stdout", b"before"))
        await shown.writes()
        await server.kill()
        await job.write(("stdout", b"meanwhile"))
        await server.start()
        await job.write(("stdout", b"after"))
        await job.end()
        assert await going == 0
    assert [data for _, data in shown.chunks] == [b"before", b"meanwhile", b"after"]


async def test_what_a_stranger_says_live_is_not_believed(bench: Bench, nats: NatsProcess) -> None:
    """An end that is not in the log, output that is not stored, and places in the stream that are none."""
    wanted, shown = asking(), Shown()
    going = asyncio.create_task(shown.run(wanted, bench.where))
    job = await take(bench, wanted.qname)
    await job.begin(("stdout", b"first"))
    await shown.writes()
    told = EventAddress("ended", job.token, job.job_id).subject
    live, tail = live_filter("ended", job.token, job.job_id), tail_subject(job.token, job.job_id)
    async with connected(nats.url) as stranger:
        for sequence in ("1000000", "no number"):
            place = {"Nats-Subject": told, "Nats-Sequence": sequence, "Nats-Time-Stamp": events.AT}
            chunk = {CHUNK_NUMBER: "2", CHUNK_OFFSET: "5", CHUNK_STREAM: "stdout", CHUNK_DIGEST: "0" * 64}
            await stranger.client.publish(live, encode(events.ended()), headers=place)
            await stranger.client.publish(tail, b"forged", headers=place | chunk)
        await stranger.client.flush()
    await job.write(("stderr", b"second"))
    await job.end("failed", "exit_code", 7)
    assert await going == 7
    assert shown.chunks == [("stdout", b"first"), ("stderr", b"second")]


@pytest.mark.parametrize("what", ["url", "vault_addr", "token"])
async def test_unreachable_or_refusing_is_125_and_one_sentence(bench: Bench, what: str) -> None:
    shown = Shown()
    wrong = {"token": "no-such-token", "vault_addr": f"http://127.0.0.1:{free_port()}"}
    wrong["url"] = f"http://user:no-such-token@127.0.0.1:{free_port()}?key=no-such-token"
    where = replace(bench.where, **{what: wrong[what]})
    assert await shown.run(asking(), where) == 125
    said = shown.text.getvalue()
    assert said.startswith("stint: ")
    assert said.count("\n") == 1
    assert "no-such-token" not in said


async def test_a_token_without_the_policy_is_told_which_one_it_lacks(bench: Bench, openbao: OpenBao) -> None:
    token = await client_token(openbao.address, openbao.root_token, policies=[])
    shown = Shown()
    where = replace(bench.where, token=token)
    assert await shown.run(asking(), where) == 125
    said = " ".join(shown.text.getvalue().split())
    assert f"POST /v1/transit/encrypt/{ROLE}" in said
    assert said.endswith("does not have the policy stint-client or stint-sealer.")


Run = Callable[..., AbstractAsyncContextManager[Process]]


@pytest.fixture
def run(bench: Bench, queue: str, tmp_path: Path) -> Run:
    """Starts `stint run`, or another command, with a job for the test's queue."""
    code = "from signal import *; signal(SIGINT, default_int_handler); from stint.cli import main; main()"

    def started(
        *arguments: str, name: str = "run", stdout: Any = PIPE, stderr: Any = PIPE, **settings: str
    ) -> AbstractAsyncContextManager[Process]:
        environ = {**bench.environment(), "HOME": str(tmp_path), "PATH": "", **settings}
        command = (sys.executable, "-c", code, name, "--queue", queue, "--image", "busybox", *arguments)
        return program(*command, env=environ, stdout=stdout, stderr=stderr)

    return started


async def test_the_command_line(bench: Bench, openbao: OpenBao, run: Run, queue: str, tmp_path: Path) -> None:
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "file").write_text("x")
    arguments = (
        *("--secret", "PASSWORD@kv/data/demo.password", "--env", "A=1"),
        *("--content", str(folder), "--entrypoint", "env", "--entrypoint", "-i", "--workdir", "/srv", "--tty"),
        *("--pull", "always", "--secret-file-type", "json", "sh", "-c", "cat /secrets.json; exit 3"),
    )
    async with run(*arguments) as process:
        job = await take(bench, queue)
        payload, secret_id = await job.open(openbao)
        assert secret_id
        await job.begin(("tty", b"\x00\xffout\r\n"))
        await job.end("failed", "exit_code", 3)
        out, err = await process.communicate()
    assert (process.returncode, out) == (3, b"\x00\xffout\r\n")
    assert b"failed with 3 (exit_code)" in err
    assert b"secrets.json" not in err, "a command may contain what is secret"
    assert payload == JobPayload(
        qname=queue,
        container_image="busybox",
        image_pull_policy="Always",
        content=payload.content,
        entrypoint=("env", "-i"),
        run=("sh", "-c", "cat /secrets.json; exit 3"),
        working_directory="/srv",
        env_vars=("A=1",),
        secret_refs=("PASSWORD@kv/data/demo.password",),
        secret_file_type="json",
        tty=True,
    )
    assert payload.content.startswith("targz,")


async def test_wrong_settings_are_2_and_one_sentence(run: Run) -> None:
    """Among them a token that is missing."""

    async def told(name: str, value: str) -> None:
        async with run(**{name: value}) as process:
            _, err = await process.communicate()
        assert (process.returncode, err.count(b"\n")) == (2, 1)
        assert name.encode() in err

    wrong = {"STINT_URL": "nonsense", "VAULT_ADDR": "nonsense", "STINT_CACERT": "/no", "STINT_TOKEN": ""}
    await asyncio.gather(*(told(*setting) for setting in wrong.items()))


async def test_a_reader_that_leaves_is_no_traceback(bench: Bench, run: Run, queue: str) -> None:
    async with run("-q") as process:
        job = await take(bench, queue)
        assert process.stdout is not None
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined] # noqa: SLF001 - closes our end
        await job.begin(("stdout", b"x"))
        assert process.stderr is not None
        err = await process.stderr.read()
        assert (await process.wait(), err) == (125, b"stint: Nobody reads the output any more. The job continues.\n")


@pytest.mark.parametrize("full", [True, False])
async def test_a_full_standard_error_costs_nothing(bench: Bench, run: Run, queue: str, *, full: bool) -> None:
    reading, stderr = os.pipe()
    os.close(reading)
    if full:
        os.close(stderr)
        stderr = os.open("/dev/full", os.O_WRONLY)
    async with run(stderr=stderr) as process:
        os.close(stderr)
        job = await take(bench, queue)
        await job.begin(("stdout", b"x"))
        await job.end("failed", "exit_code", 3)
        out, _ = await process.communicate()
    assert (process.returncode, out) == (3, b"x")


@pytest.mark.parametrize(("name", "options"), [("submit", ()), ("run", ("--detach",))])
async def test_a_job_whose_id_cannot_be_written_is_named_on_standard_error(
    bench: Bench, run: Run, queue: str, name: str, options: tuple[str, ...]
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    async with run(*options, name=name, stdout=full) as process:
        os.close(full)
        _, err = await process.communicate()
        job = await take(bench, queue)
    assert process.returncode == 125
    assert f"ob {job.job_id} is submitted" in err.decode()
    assert b"The output cannot be written: No space left on device." in err


class Held(Relay):
    """Keeps a server's answers back until it is told to let them go."""

    def __init__(self, url: str) -> None:
        super().__init__(int(url.rpartition(":")[2]))
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def sent(self, data: bytes) -> bytes:
        self.asked.set()
        return data

    async def answered(self, data: bytes) -> bytes:
        await self.free.wait()
        return data


async def said(process: Process, words: bytes) -> None:
    assert process.stderr is not None
    while words not in (line := await process.stderr.readline()):
        assert line, "it ended"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("presses", [1, 2])
async def test_ctrl_c_and_a_termination_stop_the_job(
    bench: Bench, run: Run, queue: str, presses: int, number: signal.Signals, code: int
) -> None:
    async with run() as process:
        job = await take(bench, queue)
        await job.begin()
        await said(process, b"running on")
        process.send_signal(number)
        await said(process, b"a kill was requested")
        if presses == 2:
            process.send_signal(number)
        else:
            await job.facts(events.ended("failed", "killed", 143))
        async with asyncio.timeout(10):
            assert await process.wait() == code
    assert (await loaded(bench.log, job.job_id)).kill_requested


async def test_ctrl_c_while_vault_hangs_leaves_at_once(bench: Bench, run: Run) -> None:
    """The thread that asks Vault would have it wait for as long as it takes Vault to time out."""
    async with (held := Held(bench.where.vault_addr)).listening(), run(VAULT_ADDR=held.url) as process:
        await held.asked.wait()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"")


@pytest.mark.parametrize("options", [(), ("--detach",)])
async def test_a_signal_at_submission_counts(bench: Bench, run: Run, queue: str, options: tuple[str, ...]) -> None:
    async with (held := Held(bench.server.url)).listening(), run(*options, STINT_URL=held.url) as process:
        await held.asked.wait()
        process.send_signal(signal.SIGTERM)
        await said(process, b"stopping the job")
        job = await take(bench, queue)
        held.free.set()
        await said(process, b"a kill was requested")
        await job.facts(events.started(), events.ended("failed", "killed", 143))
        async with asyncio.timeout(10):
            assert await process.wait() == 143


async def test_a_second_signal_during_the_submission_says_what_is_not_known(bench: Bench, run: Run) -> None:
    async with (held := Held(bench.server.url)).listening(), run(STINT_URL=held.url) as process:
        await held.asked.wait()
        process.send_signal(signal.SIGINT)
        await said(process, b"stopping the job")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"stint: it is not known whether the job was submitted\n")


async def test_a_signal_is_heard_while_nobody_reads_the_output(bench: Bench, run: Run, queue: str) -> None:
    reading, writing = os.pipe()
    size = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
    async with asyncio.timeout(60), run(stdout=writing) as process:
        os.close(writing)
        job = await take(bench, queue)
        await job.begin(("stdout", b"x" * size), ("stdout", b"x" * size))
        await until_true(lambda: terminals.unread(reading) >= size)
        process.send_signal(signal.SIGINT)
        await until(lambda: bench.log.load(job.job_id), lambda found: found and found.kill_requested)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    os.close(reading)


async def test_ctrl_c_before_there_is_anything_to_stop_is_no_traceback(run: Run, tmp_path: Path) -> None:
    content = tmp_path / "content.tar.gz"
    os.mkfifo(content)
    async with run("--content", str(content)) as process:
        with await asyncio.to_thread(content.open, "wb"):  # it reads
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert (process.returncode, err) == (-signal.SIGINT, b"")


async def test_a_held_job_is_followed_and_released(bench: Bench) -> None:
    wanted, shown = asking(), Shown()
    going = asyncio.create_task(shown.run(wanted, bench.where))
    job = await take(bench, wanted.qname)
    assert (await bench.command("release", job.job_id)).code == 125
    await job.facts(events.started(), events.held())
    assert await bench.command("release", job.job_id.upper()) == Result(
        0, f"Job {job.job_id}, which was running, is released: it has ended as unknown, and its queue continues.\n", ""
    )
    assert await going == 1
    said = shown.text.getvalue().splitlines()
    assert said[-5].startswith("stint: held: its runner was lost")
    assert said[-4:] == [
        "stint: released",
        "stint: Released by an operator: its runner was lost.",
        "stint: Part of the job's output may be missing above.",
        "stint: unknown (lost)",
    ]
    again = await bench.command("release", job.job_id)
    assert again == Result(0, f"Job {job.job_id} had already been released.\n", "")
    told = await bench.command("release", job.job_id, "-o", "json")
    assert (told.code, json.loads(told.out), told.err) == (0, {"_id": job.job_id, "previous_status": "unknown"}, "")


EXAMPLE = Path(__file__).parents[2] / "examples" / "publish.py"


@pytest.mark.soak
async def test_the_example_says_in_a_sentence_why_it_cannot_publish(
    nats: NatsProcess, openbao: OpenBao, tmp_path: Path
) -> None:
    good = await client_token(openbao.address, openbao.root_token, policies=["stint-publisher"])
    poor = await client_token(openbao.address, openbao.root_token, policies=[])
    environ = {"HOME": str(tmp_path), "NATS_URL": nats.url, "VAULT_ADDR": openbao.address}
    nowhere, tls = f"127.0.0.1:{free_port()}", nats.url.replace("nats:", "tls:")
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "Set VAULT_TOKEN to a Vault token with the policy stint-publisher."),
        ({"VAULT_TOKEN": poor}, "does not have the policy stint-publisher."),
        ({"VAULT_TOKEN": good, "VAULT_ADDR": f"http://{nowhere}"}, "is not reachable"),
        ({"VAULT_TOKEN": good, "NATS_URL": "nats://[::1"}, "NATS_URL: not the address of a NATS server."),
        ({"VAULT_TOKEN": good, "NATS_URL": f"nats://{nowhere}"}, "NATS is not reachable, or does not let"),
        ({"VAULT_TOKEN": good, "NATS_URL": tls}, "NATS is not reachable, or does not let"),
    ]

    async def said(settings: dict[str, str]) -> str:
        ended = await finished(sys.executable, EXAMPLE, env=environ | settings)
        assert (ended.code, ended.out) == (1, "")
        assert "Traceback" not in ended.err
        return ended.err.splitlines()[-1]

    for line, (_, words) in zip(await asyncio.gather(*(said(settings) for settings, _ in cases)), cases, strict=True):
        assert words in line
