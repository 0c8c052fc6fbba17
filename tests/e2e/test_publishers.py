"""The publishers in other languages, each as a process with a publisher's key, against a whole stack."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stint.natsauth.keys import public_key
from stint.vault.policies import PUBLISHER
from stint.vault.setup import client_token
from tests.support.accounts import Accounts
from tests.support.certificates import authority, certificate
from tests.support.relay import Relay
from tests.support.scripts import lasting
from tests.support.servers import NatsProcess, running
from tests.support.stack import STINT, Result, Stack, dev, execute
from tests.support.waiting import until

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LANGUAGES = ("node", "go")
START = 60.0
"""Seconds for a publisher to start and to submit. Under a load of 60, 30 were too few."""


@pytest.fixture(scope="module")
async def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[str | Path]]:
    """The command of each language; `scripts/ensure-languages` has installed what they need."""
    built = tmp_path_factory.mktemp("go") / "publish"
    packages = {"GOCACHE": str(ROOT / ".venv/go-cache"), "GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
    made = await execute("go", "build", "-C", EXAMPLES / "go", "-o", built, ".", env=packages)
    assert made.code == 0, made.err
    return {"node": ("node", EXAMPLES / "node" / "publish.mjs"), "go": (built,)}


@dataclass(frozen=True)
class Publisher:
    """A publisher's program with what it needs."""

    command: Sequence[str | Path]
    env: dict[str, str]

    async def __call__(self, script: str, *arguments: str, queue: str = "deploys", **env: str) -> Result:
        job = (queue, "busybox", "sh", "-c", script, *arguments)
        return await execute(*self.command, *job, env={**self.env, **env})


async def access(stack: Stack, key: Path, name: str) -> dict[str, str]:
    """The environment of this publisher."""
    token = await client_token(stack.env["VAULT_ADDR"], stack.env["VAULT_TOKEN"], policies=[PUBLISHER])
    nats = {"NATS_URL": stack.env["NATS_URL"], "STINT_NATS_NKEY_FILE": str(key)}
    vault = {"VAULT_ADDR": stack.env["VAULT_ADDR"], "VAULT_TOKEN": token}
    return {**nats, **vault, "STINT_NATS_INBOX_PREFIX": f"_INBOX.{name}"}


@pytest.fixture(params=LANGUAGES)
async def publish(request: pytest.FixtureRequest, stack: Stack, programs: dict[str, Sequence[str | Path]]) -> Publisher:
    key = stack.data_dir / "nats" / "publishers" / "dev" / "STINT_NATS_NKEY"
    return Publisher(programs[request.param], await access(stack, key, "dev"))


async def test_a_publisher_gets_the_whole_output_and_the_exit_code(publish: Publisher) -> None:
    result = await publish(lasting("seq 30000; echo told >&2; exit 3"))
    assert result.out == "".join(f"{number}\n" for number in range(1, 30001)), result.err
    assert (result.code, "told\n" in result.err, "failed exit_code" in result.err) == (3, True, True)


async def test_the_audit_says_who_submitted_and_whether_it_is_proven(stack: Stack, publish: Publisher) -> None:
    result = await publish("true")
    (job_id,) = re.findall(r"submitting (\w{24})", result.err)
    signs = "node" in publish.command
    nkey = public_key(stack.data_dir / "nats" / "publishers" / "dev") if signs else ""
    async with stack.http() as http:

        async def entries() -> list[dict[str, Any]]:
            answer = await http.get("/v1/api/audit", params={"qname": "deploys"})
            return [one for one in answer.json().get("data", ()) if one["job"] == job_id]

        (found,) = await until(entries)
    assert (found["nats_user"], found["proven"]) == (nkey, signs)
    assert found["claimed" if signs else "who"] == f"publish.{'mjs' if signs else 'go'}"


async def test_a_large_job_is_sent_in_chunks_and_no_output_is_no_failure(publish: Publisher) -> None:
    result = await publish("true", *["x" * 100_000] * 6)
    assert (result.code, result.out) == (0, ""), result.err


@asynccontextmanager
async def ending(stack: Stack, job_id: str) -> AsyncIterator[str]:
    """A job that is killed in the end, whatever happens: others wait in its queue."""
    try:
        yield job_id
    finally:
        await stack.kill(job_id)
        await stack.end(job_id)


async def the_one(stack: Stack, status: str, publishing: "asyncio.Task[Result]", *, besides: str = "") -> str:
    """The publisher's job, once it is in this state. The list lags: it has jobs of earlier tests in it, too."""
    async with stack.http() as http:

        async def look() -> list[str]:
            assert not publishing.done(), publishing.result()
            found = await http.get("/v1/api/job", params={"qname": "deploys", "status": status})
            ids = [job["_id"] for job in found.json()["data"] if job["_id"] != besides]
            return [job_id for job_id in ids if (await stack.get(job_id))["status"] == status]

        (job_id,) = await until(look, seconds=START)
    return job_id


async def test_a_job_that_is_deleted_before_its_turn_ends_the_wait(stack: Stack, publish: Publisher) -> None:
    async with stack.http() as http, ending(stack, await stack.submit("sleep 600", qname="deploys")) as waiting:
        publishing = asyncio.create_task(publish("true"))
        queued = await the_one(stack, "queued", publishing, besides=waiting)
        assert (await http.delete(f"/v1/api/job/{queued}")).is_success
        result = await publishing
    assert (result.code, "deleted" in result.err) == (1, True)


async def test_another_queue_or_token_is_refused_in_words_and_the_token_is_not_shown(publish: Publisher) -> None:
    result = await publish("true", queue="releases")
    assert (result.code, result.out) == (1, "")
    assert "ermissions" in result.err
    result = await publish("true", VAULT_TOKEN="hvs.not-a-token")
    assert (result.code, "HTTP 403" in result.err) == (1, True)
    assert "hvs.not" not in result.err


async def test_a_lost_connection_ends_the_wait_in_words_and_the_job_goes_on(stack: Stack, publish: Publisher) -> None:
    relay = Relay(int(publish.env["NATS_URL"].rpartition(":")[2]))
    async with relay.listening() as port:
        publishing = asyncio.create_task(publish("sleep 600", NATS_URL=f"nats://127.0.0.1:{port}"))
        async with ending(stack, await the_one(stack, "running", publishing)) as job_id:
            relay.cut()
            result = await publishing
            assert (await stack.get(job_id))["status"] == "running"
    assert (result.code, result.out, f"submitting {job_id}" in result.err) == (1, "", True)
    assert len(result.err.splitlines()) == 2, result.err


class Slow(Relay):
    """What the server says first comes with its refusal to wait any longer; later connections are as fast as others."""

    held = b""
    told = 0

    async def answered(self, data: bytes) -> bytes:
        self.told += 1
        if self.told == 1:
            self.held = data
            return b""
        held, self.held = self.held, b""
        return held + data


async def test_a_login_that_came_too_late_is_tried_again(publish: Publisher) -> None:
    """As on a busy machine: NATS waits 1.9 seconds for it."""
    relay = Slow(int(publish.env["NATS_URL"].rpartition(":")[2]))
    async with relay.listening() as port:
        result = await publish("true", NATS_URL=f"nats://127.0.0.1:{port}")
    assert result.code == 0, result.err


class Changing(Relay):
    """Changes what the server tells of output: replaces one text by another of the same length, so many times."""

    change = (b"", b"")
    times = sys.maxsize

    async def answered(self, data: bytes) -> bytes:
        found = min(self.times, data.count(self.change[0]))
        self.times -= found
        return data.replace(*self.change, found)


async def test_a_chunk_that_did_not_come_is_asked_for_again(publish: Publisher) -> None:
    relay = Changing(int(publish.env["NATS_URL"].rpartition(":")[2]))
    relay.change, relay.times = (b"Stint-Chunk: 1\r", b"Stint-Chunk: 9\r"), 1
    async with relay.listening() as port:
        result = await publish(lasting("echo told"), NATS_URL=f"nats://127.0.0.1:{port}")
    assert (result.code, result.out) == (0, "told\n"), result.err
    assert relay.times == 0, "another one came"


class Dropping(Relay):
    """Tells that the first payload was dropped because too many messages wait. It is stored where nobody looks."""

    told = 0

    async def sent(self, data: bytes) -> bytes:
        return re.sub(rb"(PUB pl\.\S+\.)0 ", rb"\g<1>9 ", data) if self.told == 0 else data

    async def answered(self, data: bytes) -> bytes:
        found = re.search(rb'\{"stream": ?"PAYLOADS"[^}]*\}', data)
        if self.told or not found:
            return data
        self.told += 1
        error = b'{"error":{"err_code":10167}}'.ljust(len(found[0]))
        return data.replace(found[0], error)


async def test_a_message_that_was_dropped_in_a_flood_is_published_again(publish: Publisher) -> None:
    relay = Dropping(int(publish.env["NATS_URL"].rpartition(":")[2]))
    async with relay.listening() as port:
        result = await publish(lasting("echo told"), NATS_URL=f"nats://127.0.0.1:{port}")
    assert (result.code, result.out, relay.told) == (0, "told\n", 1), result.err


async def test_output_can_be_read_by_a_publisher_that_heard_nothing(stack: Stack, publish: Publisher) -> None:
    """With the queue of another team it gets nothing."""
    job_id = await stack.submit("echo out; sleep 0.5; echo err >&2", qname="deploys")
    await stack.end(job_id)
    theirs = await stack.ended("echo secret", qname="releases")
    python = (sys.executable, "-m", "examples.output")
    env = {**publish.env, "PYTHONPATH": str(ROOT)}
    result = await execute(*python, "deploys", job_id, env=env)
    assert (result.code, result.out, result.err) == (0, "out\n", "err\n")
    for queue in ("deploys", "releases"):
        refused = await execute(*python, queue, theirs, env=env)
        assert (refused.code, refused.out) == (1, ""), queue


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b"Stint-Chunk: 1\r", b"Stint-Chunk: 7\r"), "not as recorded: chunk 1 cannot be read."),
        ((b"genuine", b"altered"), "not as recorded: chunk 2 cannot be read."),
    ],
    ids=["missed", "altered"],
)
async def test_incomplete_output_is_never_shown(publish: Publisher, change: tuple[bytes, bytes], said: str) -> None:
    relay = Changing(int(publish.env["NATS_URL"].rpartition(":")[2]))
    relay.change = change
    async with relay.listening() as port:
        result = await publish(lasting("echo genuine"), NATS_URL=f"nats://127.0.0.1:{port}")
    assert (result.code, result.out) == (1, "")
    assert said in result.err


async def test_the_lines_in_the_readme_work(stack: Stack) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.partition("### NATS")[2].partition("```bash\n")[2].partition("```")[0]
    path = f"{STINT.parent}:{os.environ['PATH']}"
    script = f"cd {ROOT}\n{lines}\necho $id"
    result = await execute("bash", "-euc", script, env={**stack.env, "PATH": path})
    hello, job_id = result.out.splitlines()
    assert (result.code, hello) == (0, "hello"), result.err
    assert (await stack.end(job_id))["status"] == "success"


async def test_the_lines_about_being_told_work(stack: Stack) -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    lines = text.partition("On `stint dev`:")[2].partition("```sh\n")[2].partition("```")[0]
    path = f"{STINT.parent}:{os.environ['PATH']}"
    told = await asyncio.create_subprocess_exec(
        *("bash", "-euc", f"{lines.strip()} & echo $!; wait"), cwd=ROOT, env={**stack.env, "PATH": path}, stdout=PIPE
    )
    assert told.stdout
    async with asyncio.timeout(60):
        first = [await told.stdout.readline() for _ in range(2)]
        job_id = await stack.submit("exit 4", qname="deploys")
        found = (await told.stdout.readline()).decode()
    os.kill(int(first[1]), signal.SIGTERM)
    await told.wait()
    assert (first[0], found) == (b"dev is told about deploys\n", f"{job_id} failed exit_code\n")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_tls_is_used_where_it_is_asked_for(
    tmp_path: Path, programs: dict[str, Sequence[str | Path]], language: str
) -> None:
    folder = authority(tmp_path / "certificates")
    certificate(folder, "", "subjectAltName = IP:127.0.0.1, DNS:localhost\nextendedKeyUsage = serverAuth\n")
    accounts = Accounts(tmp_path / "keys", {"ci": ["deploys"]})
    tls = f'\ntls {{ cert_file: "{folder / "cert.pem"}", key_file: "{folder / "key.pem"}" }}\n'
    async with running(nats := NatsProcess(tmp_path / "nats", settings=accounts.settings + tls)):
        theirs = {"STINT_NATS_CACERT": str(folder / "ca.pem"), **accounts.environ("operator")}
        async with dev(tmp_path / "dev", NATS_URL=f"tls://127.0.0.1:{nats.port}", **theirs) as stack:
            key = Path(accounts.environ("ci")["STINT_NATS_NKEY_FILE"])
            publish = Publisher(programs[language], await access(stack, key, "ci"))
            ours = {"STINT_NATS_CACERT" if language == "node" else "SSL_CERT_FILE": str(folder / "ca.pem")}
            trusted = await publish("exit 3", **ours)  # no output, which this API could not be asked for
            unknown = await publish("true")
    assert (trusted.code, "failed exit_code" in trusted.err) == (3, True), trusted.err
    assert (unknown.code, "certificate" in unknown.err) == (1, True), unknown.err
