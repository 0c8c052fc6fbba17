import asyncio
import base64
import errno
import gzip
import io
import itertools
import json
import os
import ssl
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from stint.cli.jobs import act
from stint.cli.jobs.receipt import _verify as _verify_output
from stint.cli.jobs.run import Narrator, show
from stint.client import (
    ApiUnreachableError,
    Client,
    Endpoints,
    Fact,
    JobFailedError,
    JobHandle,
    JobInfo,
    JobResult,
    OutputDiffersError,
    Phase,
    Sealed,
    endpoints,
)
from stint.client.errors import UnexpectedAnswerError
from stint.client.fields import _NAMES, JobFields, payload_of
from stint.client.job import PATIENCE
from stint.client.rest.api import Api
from stint.client.rest.connection import _verify, unreachable
from stint.client.rest.live import LiveEvent, parse_events
from stint.client.submitting import pack as packing
from stint.client.submitting.pack import pack
from stint.core.errors import ConfigError, VaultUnavailableError
from stint.core.output.chain import Chain
from stint.core.submission.payload import JobPayload
from stint.core.view import JobView

NOWHERE = Endpoints(url="http://127.0.0.1:1", vault_addr="http://127.0.0.1:1", token="t")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "content"
    (root / "demo" / "empty").mkdir(parents=True)
    (root / "demo" / "run.sh").write_text("#!/bin/sh\n")
    (root / "demo" / "run.sh").chmod(0o750)
    (root / "demo" / "link").symlink_to("/etc/passwd")
    (root / "gostint.yml").write_text("container_image: busybox\n")
    return root


def _members(content: str) -> list[tarfile.TarInfo]:
    kind, _, data = content.partition(",")
    assert kind == "targz"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(base64.b64decode(data, validate=True)))) as archive:
        return archive.getmembers()


def test_a_folder_is_packed_as_root_owns_it(folder: Path) -> None:
    members = {member.name: member for member in _members(pack(folder))}
    assert list(members) == ["./demo", "./demo/empty", "./demo/link", "./demo/run.sh", "./gostint.yml"]
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}
    assert (members["./demo/link"].issym(), members["./demo/link"].linkname) == (True, "/etc/passwd")


def test_what_was_written_with_a_umask_of_077_can_be_read_by_a_job(folder: Path) -> None:
    """Its user is not the owner, root. Nobody else may write what only the owner may."""
    packed = []
    for shared in (0o055, 0):
        for name, mode in {"demo": 0o700, "demo/empty": 0o500, "demo/run.sh": 0o700, "gostint.yml": 0o600}.items():
            (folder / name).chmod(mode | (shared & mode >> 3) | (shared & mode >> 6))
        packed.append(pack(folder))
    modes = {member.name: member.mode for member in _members(packed[1]) if not member.issym()}
    assert modes == {"./demo": 0o755, "./demo/empty": 0o555, "./demo/run.sh": 0o755, "./gostint.yml": 0o644}
    assert packed[0] == packed[1]


def test_what_is_no_file_is_left_out_and_an_archive_is_taken_as_it_is(folder: Path) -> None:
    before = pack(folder)
    os.mkfifo(folder / "pipe")
    assert pack(folder) == before
    archive = folder / "x.tar.gz"
    archive.write_bytes(b"whatever")
    assert pack(archive) == "targz," + base64.b64encode(b"whatever").decode()


def test_what_cannot_be_content(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither a folder nor a \.tar\.gz"):
        pack(folder / "gostint.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        pack(folder / "none.tar.gz")


def test_a_folder_is_packed_no_further_than_its_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is an archive read further. A folder whose files compress well is packed, however long they are."""
    for number in range(100):
        (folder / f"{number:02}").write_bytes(os.urandom(100_000))
    (folder.parent / "x.tar.gz").write_bytes(bytes(10**7))
    monkeypatch.setattr(packing, "MAX_CONTENT", 10**6)
    for content in (folder, folder.parent / "x.tar.gz"):
        tracemalloc.start()
        with pytest.raises(ConfigError, match="too large"):
            pack(content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5 * 10**6
    for number in range(100):
        (folder / f"{number:02}").write_bytes(bytes(100_000))
    assert len(_members(pack(folder))) == 105


def test_a_deep_folder_is_packed(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 100
    subprocess.run(["mkdir", "-p", tmp_path / "/".join("a" * depth)], check=True)
    try:
        assert len(_members(pack(tmp_path))) == depth
    finally:
        subprocess.run(["rm", "-r", tmp_path / "a"], check=True)  # as above: what Python has recurses


def test_a_file_that_is_shorter_than_it_says_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of /sys are: it is no error of the system, and has no text of it."""
    (tmp_path / "cut").write_bytes(b"x")
    stat = os.lstat(tmp_path / "cut")
    longer = os.stat_result((*stat[:6], 1000, *stat[7:]))
    monkeypatch.setattr(os, "lstat", lambda _path: longer)
    with pytest.raises(ConfigError, match=r"cannot be read: unexpected end of data\.$"):
        pack(tmp_path)


def test_a_folder_in_it_that_cannot_be_read_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read all; others were given content without what is in such a folder."""

    def refusing(read: Callable[[Path], Any], path: Path) -> Any:
        if Path(path).name == "demo":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, partial(refusing, getattr(os, name)))
    with pytest.raises(ConfigError, match="demo cannot be read: Permission denied"):
        pack(folder)


async def _lines(text: str) -> AsyncIterator[str]:
    for line in text.split("\n"):
        yield line


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (": ping\n\n", [("", "", {})]),
        ('event: fact\nid: 1-0-0\ndata: {"kind":"started"}\n\n', [("fact", "1-0-0", {"kind": "started"})]),
        ("data:{}\n\n", [("message", "", {})]),
        ("data: [1]\n\n", []),
        ("event: end\ndata: {}", []),  # it may go on
        ("event: hello\nid: 1-4\ndata: {}\n\nid: 1-9\n: ping\n\n", [("hello", "1-4", {}), ("", "1-9", {})]),
        ("event: x\nid: 1-10\n\n: ping\n\n", [("", "", {})]),
    ],
)
async def test_events_are_read_line_by_line(text: str, events: list[tuple[str, str, dict[str, str]]]) -> None:
    """Also pings, which may say how far a client has heard."""
    assert [(event.name, event.position, event.data) async for event in parse_events(_lines(text))] == events


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("success", 0, 0), ("failed", 3, 3), ("failed", 0, 1), ("notauthorised", 0, 1), ("unknown", 0, 1)],
)
def test_exit_codes(status: str, code: int, expected: int) -> None:
    assert JobInfo(id="", status=status, return_code=code).exit_code == expected


def test_where_things_are() -> None:
    """A publisher has a token of its own beside that of the client."""
    where = endpoints({"VAULT_TOKEN": "v", "STINT_TOKEN": "s", "STINT_URL": "https://a/"})
    assert (where.token, where.url) == ("s", "https://a")
    with pytest.raises(ConfigError, match="STINT_TOKEN or VAULT_TOKEN"):
        endpoints({"STINT_TOKEN": ""})
    assert endpoints({"VAULT_TOKEN": "v", "STINT_TOKEN": "s"}, publisher=True).token == "v"
    with pytest.raises(ConfigError, match="Set VAULT_TOKEN to a Vault token with the policy stint-publisher"):
        endpoints({"STINT_TOKEN": "s"}, publisher=True)


def test_a_repr_shows_no_secret() -> None:
    where = Endpoints(url="http://a", vault_addr="http://v", token="hidden")
    assert "hidden" not in repr(where)
    assert "hidden" not in repr(Sealed("queue", {"wrap_secret_id": "hidden", "payload": "hidden"}))


def test_a_jobs_fields_have_the_payloads_names(folder: Path) -> None:
    fields = JobFields(image="busybox", run=["a"], env={"A": "1=2"}, secrets={"S": "kv/a.y"}, content=folder, pids=3)
    assert payload_of("Deploys", fields) == JobPayload(
        qname="deploys",
        container_image="busybox",
        run=("a",),
        env_vars=("A=1=2",),
        secret_refs=("S@kv/a.y",),
        content=pack(folder),
        pids=3,
    )


def test_the_library_has_each_field_of_a_job_and_of_its_view() -> None:
    given = {_NAMES.get(name, name) for name in JobFields.__annotations__}
    assert set(JobPayload.__struct_fields__) - {"qname"} == given, "give JobFields the payload's new field"
    shown = set(JobView.__struct_encode_fields__) - {"submission", "sequence"}
    assert shown <= set(JobInfo.__struct_encode_fields__), "give JobInfo the view's new field"


def test_a_limit_of_0_takes_back_that_of_the_base() -> None:
    base = JobPayload(container_image="x", timeout=9, cpus=0.5, pids=3, memory="1g")
    none = JobFields(timeout=0, cpus=0, pids=0, memory=0)
    assert payload_of("", none, base=base) == JobPayload(container_image="x")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "image"),
        ({"image": "x", "env": {"": "sEcReT"}}, "environment variable"),
        ({"image": "x", "env": {"a=b": "sEcReT"}}, "environment variable"),
        ({"image": "x", "run": "sEcReT"}, "run"),
        ({"image": "x", "timeout": "sEcReT"}, "timeout"),
        ({"image": "x", "memory": "sEcReT"}, "memory"),
        ({"image": "x", "network": "sEcReT"}, "network"),
        ({"image": "x", "pids": 10**12}, "pids"),
        ({"image": "x", "command": ["sEcReT"]}, "command"),
        ({"image": "x", "run": ["sEcReT \udcff"]}, "Unicode"),
        ({"image": "\ud800"}, "Unicode"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not(fields: Any, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        payload_of("", fields)
    assert named in caught.value.sentence
    assert "sEcReT" not in caught.value.sentence


@pytest.mark.parametrize(
    "ask",
    [
        lambda stint: stint.counts(who="\udcff"),
        lambda stint: anext(stint.jobs(text="\udcff")),
        lambda stint: anext(stint.events(queue="\udcff")),
        lambda stint: anext(stint.lineage("\udcff")),
        lambda stint: stint.pause("a", reason="\udcff"),
        lambda stint: stint.send(Sealed("a", {}), key="\xe9"),
        lambda stint: stint.send(Sealed("a", {}), key="k" * 256),
        lambda stint: stint.counts(who="w" * 100_000),
        lambda stint: stint.drain("r" * 100_000),
        lambda stint: stint.drain(""),
        lambda stint: stint.drain("."),
        lambda stint: stint.drain(".."),  # of which `/v1/api/drain` was asked
    ],
)
async def test_what_cannot_be_sent_is_a_wrong_setting(ask: Callable[[Client], Awaitable[object]]) -> None:
    async with Client.connect(NOWHERE, patience=0) as stint:
        with pytest.raises(ConfigError):
            await ask(stint)


@pytest.mark.parametrize("text", ["", "0", "0h", "24h\n", "24 h", "h", "-1h", "1w", "\u0661h", "\udcff"])
async def test_what_is_no_duration_of_vault(text: str) -> None:
    async with Client.connect(NOWHERE) as stint:
        with pytest.raises(ConfigError, match="not a duration of Vault"):
            await stint.rerun(JOB_ID, wrap_ttl=text)


@pytest.mark.parametrize("text", ["24h", "1h30m", "1.5h", "90", "7d"])
async def test_what_is_a_duration_of_vault(text: str) -> None:
    async with Client.connect(NOWHERE) as stint:
        with pytest.raises(VaultUnavailableError):
            await stint.rerun(JOB_ID, wrap_ttl=text)


def test_a_certificate_is_verified_however_the_address_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint.client.rest.connection.getproxies", dict[str, str])
    where = Endpoints(url="HTTPS://stint.example", vault_addr="", token="t")
    assert _verify(where) is True, "a context without CAs refused all certificates"
    assert isinstance(_verify(replace(where, url="http://stint.example")), ssl.SSLContext)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://127.0.0.1:x", "ftp://a", "a"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="STINT_URL"):
        Client.connect(Endpoints(url=url, vault_addr="", token="t"))


AT = "2025-03-12T20:58:57.412Z"
JOB_ID = "0" * 24
JOB = {"_id": JOB_ID, "status": "success", "return_code": 0, "reason": "", "error": "", "output_complete": True}
STARTED = f'event: fact\nid: 1\ndata: {{"kind":"started","at":"{AT}"}}'
AGAIN = "Trying again, for up to 120 s."
OVER = f"event: end\nid: 2\ndata: {json.dumps(JOB)}"


def api_of(answer: Callable[[httpx.Request], Any], **options: Any) -> Api:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://stint")
    return Api(http, **options)


class Stream(Api):
    """An API that tells these events, and breaks where None stands."""

    def __init__(self, *events: LiveEvent | None) -> None:
        super().__init__(httpx.AsyncClient())
        self._events = iter(events)

    async def events(self, path: str, *, after: str = "", **params: Any) -> AsyncGenerator[LiveEvent, None]:  # noqa: ARG002 - Api's
        for event in self._events:
            if event is None:
                raise ApiUnreachableError("gone")
            yield event


class Shown:
    def __init__(self) -> None:
        self.data = b""
        self.text = io.StringIO()

    async def write(self, stream: str, data: bytes) -> None:  # noqa: ARG002 - one stream is enough here
        self.data += data

    async def follow(self, *events: LiveEvent | None) -> JobResult:
        job = JobHandle(Stream(*events), JOB_ID)
        return await show(job, self.write, Narrator(Console(file=self.text, width=200), quiet=True))


def output(data: bytes) -> LiveEvent:
    return LiveEvent("output", {"stream": "stdout", "data": base64.b64encode(data).decode()}, str(data))


def ended(*pieces: bytes, **fields: Any) -> LiveEvent:
    chain = Chain()
    for piece in pieces:
        chain = chain.add(piece)
    counted = {"output_chunks": chain.chunks, "output_bytes": chain.size, "output_digest": chain.digest}
    return LiveEvent("fact", {"kind": "ended", "at": AT, **counted, **fields}, "ended")


def end(**fields: Any) -> LiveEvent:
    return LiveEvent("end", {**JOB, **fields}, "end")


async def test_an_output_that_is_what_the_end_tells_of_is_taken() -> None:
    shown = Shown()
    job = await shown.follow(output(b"one"), None, output(b"two"), None, ended(b"one", b"two"), end())
    assert (job.check().tail, shown.data, shown.text.getvalue()) == (b"onetwo", b"onetwo", "")


@pytest.mark.parametrize(
    "pieces", [[b"one"], [b"two", b"one"], [b"one", b"one", b"two"], [b"onetwo"], [b"one", b"twO"], []]
)
async def test_any_other_output_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(OutputDiffersError, match="differs from what"):
        await Shown().follow(*map(output, pieces), ended(b"one", b"two"), end())


async def test_an_output_that_is_not_whole_is_said_to_be_so() -> None:
    shown = Shown()
    await shown.follow(output(b"one"), ended(b"one", b"two"), end(output_complete=False))
    assert shown.text.getvalue() == "stint: Part of the job's output may be missing above.\n"


async def test_a_job_that_is_deleted_while_it_waits_is_said_to_be_so() -> None:
    shown = Shown()
    result = await shown.follow(end(status="deleted"))
    assert (result.exit_code, shown.text.getvalue()) == (1, "stint: The job was deleted.\n")


async def test_a_proof_says_that_output_was_dropped() -> None:
    told = [output(b"one"), ended(b"one"), end(output_bytes=3, output_truncated=True, node_uuid="r")]
    proven, said = await _verify_output(JobHandle(Stream(*told), JOB_ID))
    assert proven
    assert said == "3 bytes in order, as r recorded. The job wrote more: what was beyond the limit was dropped."


async def test_a_failed_job_says_why_and_what_it_wrote_last() -> None:
    lines = b"".join(b"%d\n" % number for number in range(5000))
    failed = {"status": "failed", "return_code": 3, "reason": "exit_code"}
    result = await Shown().follow(output(lines), ended(lines), end(**failed))
    with pytest.raises(JobFailedError, match=f"Job {JOB_ID} ended as failed with 3 \\(exit_code\\)$") as caught:
        result.check()
    assert (caught.value.reason, caught.value.code) == ("exit_code", 3)
    assert caught.value.last_lines == tuple(str(number) for number in range(4980, 5000))


async def test_times_that_have_not_come_are_none_and_new_fields_are_left_out() -> None:
    result = await Shown().follow(end(started=AT, ended="0001-01-01T00:00:00Z", invented=1))
    assert (str(result.started), result.ended) == ("2025-03-12 20:58:57.412000+00:00", None)


async def test_phases_are_told_and_events_of_a_newer_api_are_left_out() -> None:
    phase = LiveEvent("phase", {"phase": "pulling", "progress": 0.5}, "")
    job = JobHandle(Stream(phase, LiveEvent("invented", {}, ""), end()), JOB_ID)
    assert [item async for item in job.stream()][:-1] == [Phase(phase="pulling", progress=0.5)]


async def test_an_answer_that_is_none_of_stints_is_an_error() -> None:
    with pytest.raises(UnexpectedAnswerError, match="not a JobResult"):
        await Shown().follow(end(status=7))


async def test_a_server_that_does_not_tell_the_digest_is_believed() -> None:
    await Shown().follow(output(b"one"), LiveEvent("fact", {"kind": "ended", "at": AT}, "ended"), end())


async def test_a_silent_job_is_followed_as_long_as_its_stream_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection breaks after it has lived for longer than a client waits for one, and told nothing but pings."""
    loop = asyncio.get_running_loop()
    clock, lived = loop.time, itertools.count(0, 2 * PATIENCE)
    told, resumed = iter([STARTED, ": ping", ": ping", OVER]), list[str | None]()

    def answer(request: httpx.Request) -> httpx.Response:
        resumed.append(request.headers.get("Last-Event-ID"))
        passed = next(lived)
        monkeypatch.setattr(loop, "time", lambda: clock() + passed)
        return httpx.Response(200, text=f"{next(told)}\n\n")

    async with api_of(answer) as api:
        assert (await JobHandle(api, JOB_ID).wait()).succeeded
    assert resumed == [None, "1", "1", "1"]


async def test_a_stream_that_is_refused_is_not_asked_for_again_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What says so is no news of the job: usually the answer to the next request says why."""
    loop = asyncio.get_running_loop()
    clock, passed = loop.time, itertools.count(0, PATIENCE)
    told = iter([STARTED, *["event: refused\ndata: {}"] * 3])

    def answer(_request: httpx.Request) -> httpx.Response:
        now = next(passed)
        monkeypatch.setattr(loop, "time", lambda: clock() + now)
        return httpx.Response(200, text=f"{next(told)}\n\n")

    async with api_of(answer) as api:
        with pytest.raises(ApiUnreachableError, match="ended too early"):
            await JobHandle(api, JOB_ID).wait()


async def test_the_time_that_a_reader_takes_is_none_without_stint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a person who reads in a pager: the connection has broken meanwhile, and can be made again."""
    loop = asyncio.get_running_loop()
    clock, passed = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + passed)
    told = iter([STARTED, OVER])
    async with api_of(lambda _request: httpx.Response(200, text=f"{next(told)}\n\n")) as api:
        found = []
        async for item in JobHandle(api, JOB_ID).stream():
            found.append(type(item))
            passed += 2 * PATIENCE
    assert found == [Fact, JobResult]


async def test_an_outage_is_said_once_and_a_break_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint.client.rest.api.FIRST_PAUSE", 1e-6)
    told = iter([STARTED, None, None, ": ping", None, None, None, OVER])

    def answer(request: httpx.Request) -> httpx.Response:
        if (text := next(told)) is None:
            raise httpx.ConnectError("Refused.", request=request)
        return httpx.Response(200, text=f"{text}\n\n")

    said = list[str]()
    async with api_of(answer, say=said.append) as api:
        assert (await JobHandle(api, JOB_ID).wait()).succeeded
    assert said == [f"Stint at http://stint is not reachable (ConnectError: Refused). {AGAIN}"] * 2


def test_a_time_out_says_what_it_is() -> None:
    error = unreachable(httpx.AsyncClient(base_url="http://stint"), httpx.ReadTimeout(""))
    assert error.sentence == "Stint at http://stint is not reachable (ReadTimeout)."


async def test_a_wait_ends_although_the_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(act, "LOOK", 0.01)
    async with api_of(never) as api:
        with pytest.raises(ApiUnreachableError, match=f"not known whether job {JOB_ID} has ended"):
            await act._end(JobHandle(api, JOB_ID), 0, "text")  # noqa: SLF001 - the command connects by itself


@pytest.mark.parametrize("seconds", [None, 60])
async def test_a_wait_ends_when_its_job_is_deleted(seconds: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    deleted = end(status="deleted")
    found = await act._end(JobHandle(Stream(deleted), JOB_ID), seconds, "text")  # noqa: SLF001 - as above
    assert found
    assert (found.exit_code, capsys.readouterr().out) == (1, f"{JOB_ID} deleted\n")
