"""Where the secrets of a job are while it runs, and what is left of them when it is over.

docs/security.md says the same in words. That the search finds what is there is shown by what a running job has in
Docker's files and in its process, and by leaks that are made on purpose.
"""

import asyncio
import base64
import contextlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stint.client.submitting.submission import seal
from stint.core.errors import VaultDeniedError
from stint.core.names.headers import LABEL_JOB
from stint.core.submission.payload import JobPayload
from stint.vault import Caller, Vault
from tests.api.archive import targz
from tests.e2e.compose import docker
from tests.support.answers import json_of
from tests.support.leaks import Leak, Scanner
from tests.support.relay import Relay
from tests.support.servers import BaoProcess, running
from tests.support.stack import Stack, dev
from tests.support.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]  # it reads all that is written on this machine meanwhile

TOKENS = re.compile(rb'"(client_token|secret_id|token|key)":"([^"]{16,})"')
"""As Vault's answers have them. A `key` is that of a payload."""
QUEUE = "at-rest"

PLACES = {
    # A draft of it has another name, as long as it is being written.
    r"/var/lib/docker/containers/ID/(config.v2.json|\.tmp-config.v2.json\d+)": "the engine's record of the container",
    r"/run/(docker/)?containerd/.*/ID/config.json": "the runtime's record of the container",
    r"/var/lib/(docker/)?containerd/.*/meta.db": "containerd's database",
    r"/var/lib/docker/image/overlay2/imagedb/content/sha256/ID": "the engine's record of an image",
    r"/var/lib/docker/overlay2/ID/diff/secrets.yml": "a layer: secrets file",
    r"/var/lib/docker/overlay2/ID/diff/srv/file": "a layer: content",
    r"/proc/PID/(cmdline|environ)": "the job's process",
    r"/var/lib/docker/containers/ID/local-logs/container.log": "the engine's log of the container",
    r".*/data/nats/.*/streams/[A-Z]+/msgs/[0-9]+.blk": "a stream of NATS",
    r".*/data/log/[a-z0-9-]+.log": "a log",
}
"""What the files are that may be found, by their names. Others keep theirs."""
RECORDS = {
    "the engine's record of the container",
    "the runtime's record of the container",
    "containerd's database",
    "the job's process",
    "docker inspect",
}
"""Where the environment and the arguments of a running container are."""
FILES = {("secret", "a layer: secrets file"), ("content", "a layer: content")}
WHILE_RUNNING = FILES | {(kind, place) for kind in ("environment", "argument") for place in RECORDS}
"""Of a job that does not ask for more."""
OF_AN_IMAGE = {("argument", f"docker {word}") for word in ("history", "image inspect")} | {
    ("argument", "the engine's record of an image")
}
"""Of a job with a read-only root."""
OF_A_TOKEN = {("token", place) for place in {*RECORDS, "a layer: secrets file"}}
"""Of a job with `expose_vault_token`."""
LEFT = {(kind, "containerd's database") for kind in ("environment", "argument", "token")}
"""Of a job that is over: in pages of the database that are free, until they are used again."""
READABLE = os.geteuid() == 0
SHOWN_TO_ALL = {"docker inspect", "docker history", "docker image inspect", "docker logs"}
"""What is found without being root, besides Stint's own files."""


class Recorder(Relay):
    """In front of Vault: remembers every token, secret id and key that Vault gives out."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._answers = bytearray()

    async def answered(self, data: bytes) -> bytes:
        self._answers += data
        return data

    def begin(self) -> None:
        """Forget what was given out before."""
        self._answers.clear()

    def given(self, kind: str) -> set[bytes]:
        return {secret for name, secret in TOKENS.findall(self._answers) if name.decode() == kind}


@dataclass
class Canaries:
    """One secret of each kind that a submission has; those of Vault are added by the recorder."""

    env: bytes = field(default_factory=lambda: _canary("env"))
    argument: bytes = field(default_factory=lambda: _canary("argument"))
    content: bytes = field(default_factory=lambda: _canary("content"))
    secret: bytes = field(default_factory=lambda: _canary("secret"))

    def job(self, **fields: Any) -> JobPayload:
        packed = targz({"srv/file": self.content})
        job = {
            "qname": QUEUE,
            "container_image": "busybox",
            "run": ["sh", "-c", "echo ready; sleep 600 & wait", self.argument.decode()],
            "env_vars": [f"CANARY={self.env.decode()}"],
            "content": packed,
            "secret_refs": ["PASSWORD@kv/data/at-rest.password"],
            **fields,
        }
        return msgspec.convert(job, JobPayload)


def _canary(kind: str) -> bytes:
    return f"canary-{kind}-{secrets.token_hex(12)}".encode()


@dataclass
class World:
    """A stack in front of whose Vault somebody writes down what it gives out."""

    stack: Stack
    vault: Vault
    root: str
    recorder: Recorder
    began: float = field(default_factory=time.time)

    async def write_secret(self, value: bytes) -> None:
        secret = {"data": {"password": value.decode()}}
        await self.vault.call(self.root, lambda client: client.adapter.post("/v1/kv/data/at-rest", json=secret))

    async def submit(self, job: JobPayload, *, plain: bool) -> str:
        """By the API, which seals it, or sealed and handed over in a cubbyhole."""
        if plain:
            body = {**msgspec.to_builtins(job), "wrap_secret_id": await self.stack.wrapped()}
        else:
            token, role = self.stack.env["STINT_TOKEN"], self.stack.env["STINT_ROLE"]
            fields = await seal(self.vault, token, job, role=role, wrap_ttl="600s")
            body = {"qname": QUEUE, **fields}
        async with self.stack.http() as http:
            return str(json_of(await http.post("/v1/api/job", json=body))["_id"])

    def scanner(self, canaries: Canaries, job: JobPayload) -> Scanner:
        """For all that is known by now. A piece of the packed content is a secret of the payload."""
        token = self.stack.env["STINT_TOKEN"].encode()
        middle = len(job.content) // 2
        return Scanner(
            {
                "environment": [canaries.env],
                "argument": [canaries.argument],
                "content": [canaries.content],
                "packed content": [job.content[middle : middle + 40].encode()],
                "secret": [canaries.secret],
                "client's token": [token],
                "secret id": self.recorder.given("secret_id"),
                "wrapping token": self.recorder.given("token"),
                "payload's key": map(base64.b64decode, self.recorder.given("key")),
                "token": self.recorder.given("client_token") - {token},
            }
        )

    async def found(self, scanner: Scanner, job_id: str) -> set[tuple[str, str]]:
        """All that is found on this machine: kinds and places."""
        shown = await self._shown(job_id)
        leaks = await asyncio.to_thread(
            lambda: [
                *self._on_disk(scanner),
                *scanner.processes(),
                *(leak for name, text in shown.items() for leak in scanner.data(name, text.encode())),
            ]
        )
        return {(leak.kind, _place(leak)) for leak in leaks}

    def _on_disk(self, scanner: Scanner) -> Iterator[Leak]:
        env_file = self.stack.folder / "stack.env"  # which holds the client's token on purpose
        kept = ("docker", "containerd", "systemd/coredump")
        folders = ["/run", "/var/log", "/var/crash", *(f"/var/lib/{name}" for name in kept)]
        for place in [self.stack.folder, *map(Path, folders), *_temporary()]:
            if place.is_dir():
                yield from scanner.files(place, since=self.began, without=[env_file])

    async def usable_tokens(self) -> list[Caller]:
        """The jobs' own tokens that Vault has given out and still knows. A runner's is revoked when it stops."""
        usable = []
        for token in self.recorder.given("client_token"):
            with contextlib.suppress(VaultDeniedError):
                usable.append(await self.vault.lookup_self(token.decode()))
        return [caller for caller in usable if self.stack.env["STINT_ROLE"] in caller.policies]

    async def kill(self, job_id: str) -> None:
        """Returns when nothing of it is on the engine any more."""
        await self.stack.kill(job_id)
        assert (await self.stack.end(job_id))["reason"] == "killed"
        await until(lambda: _containers(job_id), lambda left: not left)
        await until(lambda: _images(job_id), lambda left: not left)

    async def _shown(self, job_id: str) -> Mapping[str, str]:
        """What the engine tells whoever may use it."""
        since = f"--since={int(self.began)}"
        return {
            "docker inspect": await _each(await _containers(job_id), "inspect"),
            "docker logs": await _each(await _containers(job_id), "logs"),
            "docker image inspect": await _each(await _images(job_id), "image", "inspect"),
            "docker history": await _each(await _images(job_id), "history", "--no-trunc"),
            "docker events": await docker("events", since, f"--until={int(time.time()) + 1}"),
        }


def _place(leak: Leak) -> str:
    return next((name for path, name in PLACES.items() if re.fullmatch(path, leak.where)), leak.where)


def _temporary() -> list[Path]:
    """The folders for temporary files, without those of tests, which have leaks of their own."""
    return [path for path in Path("/tmp").iterdir() if path.is_dir() and not path.name.startswith("pytest-")]  # noqa: S108


async def _containers(job_id: str) -> list[str]:
    return (await docker("ps", "-aq", "--filter", f"label={LABEL_JOB}={job_id}")).split()


async def _images(job_id: str) -> list[str]:
    return (await docker("images", "-aq", "--filter", f"label={LABEL_JOB}={job_id}")).split()


async def _each(ids: list[str], *command: str) -> str:
    return "".join([await docker(*command, each) for each in ids])


@pytest.fixture(scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("at-rest")
    async with running(bao := BaoProcess(folder / "bao")), (recorder := Recorder(bao.port)).listening() as port:
        own = {"VAULT_ADDR": f"http://127.0.0.1:{port}", "VAULT_TOKEN": bao.root_token, "STINT_KILL_GRACE": "1"}
        async with dev(folder / "dev", **own) as stack, Vault(stack.env["VAULT_ADDR"]) as vault:
            yield World(stack, vault, bao.root_token, recorder)


@pytest.mark.parametrize(
    ("plain", "options", "while_running"),
    [
        (True, {}, WHILE_RUNNING),
        (False, {"read_only": True, "expose_vault_token": True}, WHILE_RUNNING | OF_AN_IMAGE | OF_A_TOKEN),
    ],
    ids=["plain", "sealed, with all that a job can ask for"],
)
async def test_only_the_engine_has_a_job_s_secrets(
    here: World, plain: bool, options: dict[str, Any], while_running: set[tuple[str, str]]
) -> None:
    canaries = Canaries()
    await here.write_secret(canaries.secret)
    here.recorder.begin()
    job = canaries.job(**options)
    job_id = await here.submit(job, plain=plain)
    await here.stack.writes(job_id)
    assert here.recorder.given("key")
    found = await here.found(here.scanner(canaries, job), job_id)
    expected = {(kind, place) for kind, place in while_running if READABLE or place in SHOWN_TO_ALL}
    assert found == expected if READABLE else found >= expected
    assert await here.usable_tokens()
    await here.kill(job_id)
    assert await here.found(here.scanner(canaries, job), job_id) <= LEFT
    await until(here.usable_tokens, lambda tokens: not tokens)  # what is left is of no use


async def test_what_leaks_is_found(here: World) -> None:
    """What a job prints is stored as it is. What a service would log, or leave in a file, would be found too."""
    canaries = Canaries()
    await here.write_secret(canaries.secret)
    job = canaries.job(run=["sh", "-c", "cat /secrets.yml; echo; sleep 600 & wait", canaries.argument.decode()])
    job_id = await here.submit(job, plain=True)
    await here.stack.writes(job_id)
    scanner = here.scanner(canaries, job)
    with (here.stack.data_dir / "log" / "api-1.log").open("ab") as log:
        log.write(canaries.content + here.stack.env["STINT_TOKEN"].encode() + b"\n")
    found = await here.found(scanner, job_id)
    await here.kill(job_id)
    leaked = {
        ("secret", "a stream of NATS"),
        ("secret", "docker logs"),
        ("content", "a log"),
        ("client's token", "a log"),
    }
    assert found >= leaked
    assert ("secret", "a stream of NATS") in await here.found(scanner, job_id), "output is kept"


def test_no_process_dumps_core(here: World) -> None:
    limits = [Path(f"/proc/{pid}/limits").read_text(encoding="ascii") for pid in here.stack.pids()]
    assert limits
    assert all(re.search(r"^Max core file size +0 +0 ", text, re.MULTILINE) for text in limits)
