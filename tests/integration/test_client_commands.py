"""Commands about jobs, on a real API, as processes: in a pipe, and on a terminal."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from stint.client import Client
from tests.support import events
from tests.support.api_bench import secret
from tests.support.client_bench import Bench, opened
from tests.support.servers import NatsProcess, OpenBao
from tests.support.stack import Result
from tests.support.waiting import until

NOWHERE = "0" * 24


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with opened(tmp_path_factory.mktemp("api"), nats, openbao) as bench:
        yield bench


async def test_jobs_are_listed_as_a_table_as_json_and_by_name(bench: Bench, stint: Client, queue: str) -> None:
    failed, queued = [(await stint.submit(queue=queue, image="busybox")).id for _ in range(2)]
    await bench.run(queue, failed, b"one\ntwo\n", 3)
    await bench.project(failed, queued)
    names = await until(
        lambda: bench.command("ls", "--queue", queue, "-o", "name"), lambda found: found.out == f"{queued}\n{failed}\n"
    )
    assert (names.code, names.err) == (0, "")
    listed = [json.loads(line) for line in (await bench.command("ls", "--queue", queue, "-o", "json")).out.splitlines()]
    assert [(job["_id"], job["status"], job["ended"] is None) for job in listed] == [
        (queued, "queued", True),
        (failed, "failed", False),
    ]
    table = (await bench.command("ls", "--queue", queue, "--status", "failed", "--since", "1h")).out.splitlines()
    assert table[0].split() == ["ID", "QUEUE", "STATUS", "AGE", "TOOK", "IMAGE"]
    assert table[1].split()[:4] == [failed, queue, "failed", "(3)"]
    assert len(table) == 2
    wide = (await bench.command("ls", "--queue", queue, "-o", "wide", "-n", "1")).out.splitlines()
    assert "token-stint-client" in wide[1]
    for part in (failed[:20], failed[-20:]):
        assert (await bench.command("ls", "--id", part, "-o", "name")).out == f"{failed}\n"
    shown = await bench.command("show", failed[-20:])
    assert "return_code       3\n" in shown.out
    assert json.loads((await bench.command("show", failed, "-o", "json")).out)["node_uuid"] == "runner-1"


async def test_a_list_says_that_there_are_more_and_names_are_all(bench: Bench, stint: Client, queue: str) -> None:
    """Another command is given the names."""
    jobs = {job.id for job in await asyncio.gather(*(stint.submit(queue=queue, image="busybox") for _ in range(21)))}
    await bench.project(*jobs)
    await until(
        lambda: bench.command("ls", "--queue", queue, "-o", "name"),
        lambda found: (set(found.out.split()), found.err) == (jobs, ""),
    )
    listed = await bench.command("ls", "--queue", queue, "-o", "json")
    assert len(listed.out.splitlines()) == 20
    assert listed.err == "stint: There are more jobs than these 20: --limit says how many to show.\n"
    for form in ("json", "name"):
        bound = await bench.command("ls", "--queue", queue, "-o", form, "-n", "3")
        assert (len(bound.out.splitlines()), bound.err) == (3, "")


async def test_output_is_shown_followed_and_verified(bench: Bench, stint: Client, queue: str) -> None:
    job = (await stint.submit(queue=queue, image="busybox")).id
    following = asyncio.create_task(bench.command("logs", "-f", job))
    waiting = asyncio.create_task(bench.command("wait", job))
    await bench.run(queue, job, b"one\ntwo\nthree\n", 3)
    assert (await following).out == (await bench.command("logs", job)).out == "one\ntwo\nthree\n"
    assert (await waiting) == Result(3, f"{job} failed (3)\n", "")
    assert (await bench.command("logs", "--tail", "1", job)).out == "three\n"
    assert (await bench.command("logs", "--stream", "stderr", "-f", job)).out == ""
    assert await bench.command("verify", job) == Result(
        0, f"{job}: 14 bytes, all of them and in order, as runner-1 recorded.\n", ""
    )


async def test_an_output_that_is_not_proven_is_not_verified(bench: Bench, stint: Client, queue: str) -> None:
    job = (await stint.submit(queue=queue, image="busybox")).id
    await bench.end(queue, job, events.ended("unknown", "lost"), output_complete=False)
    result = await bench.command("verify", job)
    assert (result.code, result.out) == (1, f"{job}: 0 bytes; its runner did not record that they are all.\n")
    told = await bench.command("verify", job, "-o", "json")
    assert (told.code, json.loads(told.out)["proven"]) == (1, False)


async def test_a_wait_has_an_end_and_without_time_looks_once(bench: Bench, stint: Client, queue: str) -> None:
    job = (await stint.submit(queue=queue, image="busybox")).id
    result = await bench.command("wait", "--timeout", "0.1", job)
    assert (result.code, result.err) == (124, "stint: not all jobs have ended within 0.1 s; they continue\n")
    ended, waiting = [(await stint.submit(queue=queue, image="busybox")).id for _ in range(2)]
    await bench.end(queue, ended, events.ended("failed", "exit_code", 3))
    told = f"{ended} failed (3)\n"
    assert await bench.command("wait", "--timeout", "0", ended) == Result(3, told, "")
    both = await bench.command("wait", "--timeout", "0", waiting, ended)
    assert (both.code, both.out) == (124, told)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "--id", "zz"), "id: must be 1 to 24 hex digits"),
        (("ls", "--queue", "a\tb"), "A queue name contains no control characters."),
        (("audit", "--queue", "a\tb"), "A queue name contains no control characters."),
        (("events", "--queue", "a\tb"), "A queue name contains no control characters."),
        (("lineage", ""), "secret: String should have at least 1 character"),
    ],
)
async def test_a_filter_the_api_refuses_is_a_wrong_option(bench: Bench, arguments: Sequence[str], said: str) -> None:
    assert await bench.command(*arguments) == Result(2, "", f"stint: Stint refused (400): {said}\n")


async def test_a_history_names_what_took_how_long(bench: Bench, stint: Client, queue: str) -> None:
    job = (await stint.submit(queue=queue, image="busybox")).id
    so_far = (await bench.command("history", job)).out.splitlines()
    assert [line.split()[2:] for line in so_far] == [["submitted", "by", "token-stint-client"], ["its", "queue"]]
    await bench.end(queue, job, events.ended("failed", "exit_code", 3))
    lines = [" ".join(line.split()[2:]) for line in (await bench.command("history", job)).out.splitlines()]
    assert lines == [
        "submitted by token-stint-client",
        "waited in its queue",
        "started on runner-1",
        "was prepared, and never ran",
        "ended failed (3)",
    ]
    assert (await bench.command("history", job, "-o", "name")).out == "submitted\nstarted\nended\n"


async def test_jobs_are_killed_and_removed_and_refusals_are_told(bench: Bench, stint: Client, queue: str) -> None:
    jobs = [(await stint.submit(queue=queue, image="busybox")).id for _ in range(2)]
    assert (await bench.command("release", jobs[0])).code == 125, "no wrong option"
    assert await bench.command("kill", *jobs) == Result(0, "".join(f"{job}\n" for job in jobs), "")
    result = await bench.command("rm", jobs[0], NOWHERE, jobs[1])
    assert (result.code, result.out) == (125, "".join(f"{job}\n" for job in jobs))
    assert result.err == f"stint: Stint has no job {NOWHERE}.\n"
    for name in ("show", "logs", "history", "kill", "rm", "wait", "rerun", "release", "receipt"):
        refused = await bench.command(name, "no-id")
        assert (refused.code, refused.err[:12]) == (2, "stint: no-id"), (name, refused)
    assert "No job has an id that begins" in (await bench.command("show", "0" * 20)).err
    stranger = await bench.command("ls", settings={"STINT_TOKEN": secret()})
    assert (stranger.code, stranger.err[:39]) == (125, "stint: Vault does not accept the token:")


async def test_what_was_changed_is_told_as_json_or_by_name(bench: Bench, stint: Client, queue: str) -> None:
    """A line for each thing; what was refused is on standard error only."""

    async def told(*arguments: str, code: int = 0) -> dict[str, object]:
        result = await bench.command(*arguments, "-o", "json")
        assert (result.code, result.err) == (code, "")
        (line,) = result.out.splitlines()
        found: dict[str, object] = json.loads(line)
        return found

    submitted = await told("submit", "--queue", queue, "--image", "busybox")
    job = str(submitted["_id"])
    assert (await stint.job(job).info()).queue == queue
    named = await bench.command("submit", "--queue", queue, "--image", "busybox", "-o", "name")
    other = named.out.strip()
    assert (await stint.job(other).info()).queue == queue
    assert (await told("pause", queue, "--reason", "a test"))["paused"]
    resumed = await told("resume", queue)
    assert (resumed["qname"], resumed["paused"]) == (queue, None)
    assert (await bench.command("pause", queue, "-o", "name")).out == f"{queue}\n"
    assert await told("kill", job) == {"_id": job}
    ended = await told("wait", job, code=1)
    assert (ended["_id"], ended["status"], ended["reason"], "tail" in ended) == (job, "failed", "killed", False)
    assert (await bench.command("rm", job, other, "-o", "name")).out == f"{job}\n{other}\n"
    result = await bench.command("rm", NOWHERE, "-o", "json")
    assert (result.code, result.out) == (125, "")


async def test_a_job_is_submitted_in_gostints_ways(bench: Bench, stint: Client, queue: str, tmp_path: Path) -> None:
    """What the sealed job is, `test_client_run` shows; here each way leads to a job in its queue."""
    job = {"qname": queue, "container_image": "busybox", "run": ["true"]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    ways = [
        (("--job-json", "-"), json.dumps(job).encode()),
        ((f"-job-json=@{tmp_path / 'job.json'}",), None),
        ((f"-qname={queue}", "-image=busybox", '-run=["cat", "a"]', '-env-vars=["A=1"]', "-cont-on-warnings"), None),
        (("--queue", queue, "--image", "busybox", "--env-file", "-"), b"A=1\n"),
        (("--queue", queue, "--image", "busybox", "--content", "-", "--key", "k"), b"targz"),
        (("--queue", queue, "--image", "busybox", "--content", "-", "--key", "k"), b"targz"),
    ]
    results = [await bench.command("submit", *options, stdin=stdin) for options, stdin in ways]
    assert [(result.code, result.err) for result in results] == [(0, "")] * len(ways)
    ids = [result.out.strip() for result in results]
    assert {(await stint.job(job_id).info()).queue for job_id in ids} == {queue}
    assert ids[-1] == ids[-2]
    assert len({*ids}) == len(ids) - 1


async def test_queues_are_listed(bench: Bench, stint: Client, queue: str) -> None:
    job = (await stint.submit(queue=queue, image="busybox")).id
    await bench.project(job)
    listed = await until(lambda: bench.command("queues"), lambda found: queue in found.out)
    (row,) = [line.split() for line in listed.out.splitlines() if queue in line]
    assert (row[1], row[3:8]) == ("1", ["-", "no", "runner", "serves", "it"])
    await stint.pause(queue, reason="a test")
    shown = json.loads((await bench.command("queues", queue, "-o", "json")).out)
    assert (shown["paused"]["reason"], shown["waiting"]) == ("a test", [job])
    words = (await bench.command("queues", queue)).out.splitlines()
    in_words = dict(line.split(maxsplit=1) for line in words)
    assert in_words["waiting"] == job
    assert re.fullmatch(r"who token-stint-client, at 20[-0-9]+T[:.0-9]+Z, reason a test", in_words["paused"])
    assert "paused by token-stint-client: a test" in (await bench.command("queues")).out


async def test_a_profile_and_vaults_token_are_found(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / ".vault-token").write_text(f"{bench.where.token}\n")
    file = tmp_path / "config.toml"
    file.write_text(f'profile = "a"\n[profiles.a]\nurl = "{bench.where.url}"\n[profiles.b]\nurl = "http://u:pw@b"\n')
    unset = {"STINT_URL": "", "STINT_TOKEN": "", "HOME": str(tmp_path), "STINT_CONFIG": str(file)}
    assert (await bench.command("ls", "-n", "1", settings=unset)).code == 0
    shown = json.loads((await bench.command("config", "-o", "json", "--profile", "b", settings=unset)).out)
    assert shown["STINT_URL"] == {"value": "http://…@b", "from": "profile b"}
    assert shown["VAULT_TOKEN"] == {"value": "(hidden)", "from": str(tmp_path / ".vault-token")}
    assert shown["VAULT_ADDR"]["from"] == "environment"
    given = json.loads((await bench.command("config", "-o", "json", settings=unset | {"STINT_URL": "http://c"})).out)
    assert given["STINT_URL"] == {"value": "http://c", "from": "environment"}


async def test_a_shell_completes_commands_ids_and_queues(bench: Bench, stint: Client, queue: str) -> None:
    job = (await stint.submit(queue=queue, image="busybox")).id
    await bench.project(job)

    async def completes(wanted: str, *words: str) -> None:
        """At last: lists lag, and a shell is not kept waiting for an answer that does not come soon."""
        asked = {
            "COMP_WORDS": " ".join(("stint", *words)),
            "COMP_CWORD": str(len(words)),
            "_STINT_COMPLETE": "complete_bash",
        }
        await until(lambda: bench.command(settings=asked), lambda found: found.out.strip() == wanted)

    await completes(job, "show", job[:8])
    await completes(queue, "ls", "--queue", queue[:9])
    await stint.pause(f"{queue}-empty", reason="no job was ever in it")
    await completes(f"{queue}-empty", "resume", f"{queue}-")
    await bench.runner(f"{queue}-runner")
    await completes(f"{queue}-runner", "drain", queue[:9])
    await completes("history", "hist")
    script = await bench.command("completion", "bash")
    assert (script.code, "complete_bash" in script.out) == (0, True)


@pytest.mark.parametrize(("key", "code"), [("d", 0), ("k", 130), ("\x03", 130), ("x", 3)])
async def test_ctrl_c_on_a_terminal_asks(bench: Bench, queue: str, key: str, code: int) -> None:
    async with bench.terminal("run", "--queue", queue, "--image", "busybox") as shown:
        await shown.until("waiting in its queue")
        job = await until(lambda: bench.job_of(queue))
        shown.press("\x03")
        await shown.until("k or Ctrl-C kills it")
        assert not await bench.killed(job)
        shown.press(key)
        if key == "d":
            await shown.until(f"stint logs -f {job}")
        elif key == "x":
            await bench.run(queue, job, b"hello\n", 3)
            await shown.until("hello")
            await shown.until("failed with 3")
        async with asyncio.timeout(60):
            assert await shown.process.wait() == code
    assert await bench.killed(job) == (key in {"k", "\x03"})
