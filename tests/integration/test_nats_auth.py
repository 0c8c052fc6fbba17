"""`stint nats-auth`: publishers come in with Vault tokens, for what Vault's policies allow, and no longer."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from typer.testing import CliRunner

from stint.cli.app import app
from stint.client import Endpoints
from stint.core.errors import BrokerClosedError
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import JS_PREFIX, payload_subject, publisher_inbox, tail_subject
from stint.jetstream import Access, Broker
from stint.natsauth.callout.admissions import ENOUGH, NOT_LET_IN
from stint.natsauth.config import SUBSCRIPTIONS
from stint.natsauth.keys import ISSUER_FILE, issuer_key
from stint.natsauth.roles import CALLOUT
from stint.publisher import Publisher
from stint.publisher import job as job_module
from stint.vault import Vault
from tests.support.accounts import (
    Accounts,
    Guarded,
    NatsAuth,
    accepted,
    logged_in,
    nats_auth,
    token_for,
)
from tests.support.servers import BaoProcess, OpenBao, readyz, running
from tests.support.vault_bench import ROLE
from tests.support.waiting import until, until_true

OWN, OTHER = queue_token("own"), queue_token("other")
JOB = "b" * 24
ALL = ("create", "read", "update")
SECONDS = 3
"""The longest life of a login here."""
SOON = 8.0
"""Seconds until a login is refused at the latest, on a busy machine; the server does it after two."""


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    return Accounts(tmp_path_factory.mktemp("keys"), {"team": ["own"]}, auth=True)


Start = Callable[..., AbstractAsyncContextManager[NatsAuth]]


@pytest.fixture
def callout(server: Guarded, openbao: OpenBao, tmp_path: Path) -> Start:
    """Runs a process of the service for a block."""

    def running(vault: OpenBao | BaoProcess = openbao, **settings: str) -> AbstractAsyncContextManager[NatsAuth]:
        return nats_auth(server, vault, tmp_path / secrets.token_hex(4), **settings)

    return running


@pytest.fixture
async def auth(callout: Start) -> AsyncIterator[NatsAuth]:
    async with callout() as auth:
        yield auth


@asynccontextmanager
async def connected(server: Guarded, listed: str, token: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """A publisher's connection, and what the server does not permit it."""
    denied: list[str] = []

    async def note(error: Exception) -> None:
        denied.append(str(error))

    login = {"user": listed, "password": token, "inbox_prefix": publisher_inbox(token)}
    async with logged_in(server.url, note, **login) as client:
        yield client, denied


async def refused(server: Guarded, listed: str, token: str) -> float:
    """Seconds after which the login was refused."""
    begun = time.monotonic()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        async with connected(server, listed, token):
            pass
    return time.monotonic() - begun


async def answered(client: Client) -> None:
    """Return when the server has answered all before. The client's ping overtakes what it has not sent yet."""
    await client.flush()
    await client.flush()


async def permitted(client: Client, denied: Sequence[str], subject: str) -> bool:
    """Whether the server lets the client publish there."""
    await client.publish(subject, b"{}")
    await answered(client)
    return not any(subject.lower() in said.lower() for said in denied)


@pytest.mark.usefixtures("auth")
@pytest.mark.parametrize("qname", ["own", "net core", "=x", "a,b", ""])
async def test_a_token_may_do_what_its_policies_allow(server: Guarded, openbao: OpenBao, qname: str) -> None:
    queue = queue_token(qname)
    subjects = {
        "create": [f"ev.{JOB}.{queue}.submitted", payload_subject(queue, JOB, 0)],
        "update": [f"ev.{JOB}.{queue}.kill_requested"],
        "read": [f"{JS_PREFIX}.DIRECT.GET.{EVENTS}.ev.{JOB}.{queue}.ended"],
    }
    listed = qname if qname in {"own", "net core"} else f"={queue}"
    tokens = {openbao.root_token: list(subjects)}
    for given in (["create"], ["update"], ["read", "list"], list(subjects)):
        tokens[await token_for(openbao, {qname: given})] = [name for name in given if name in subjects]
    for token, allowed in tokens.items():
        async with connected(server, listed, token) as (client, denied):
            found = {
                capability
                for capability, several in subjects.items()
                if all([await permitted(client, denied, subject) for subject in several])
            }
            assert not await permitted(client, denied, f"ev.{JOB}.{OTHER}.submitted")
            await client.subscribe(tail_subject(queue, "*"))
            await answered(client)
        assert found == set(allowed)
        assert any("tail" in said for said in denied) == ("read" not in allowed)


REFUSALS = {
    "another queue": ("other", 'lacks the capability "create" on "stint/queue/other"'),
    "one of several": ("own,other", 'lacks the capability "create" on "stint/queue/other"'),
    "a pattern": ("*", 'lacks the capability "create" on "stint/queue/=fi"'),
    "a part of a name": ("ow", 'lacks the capability "create" on "stint/queue/ow"'),
    "another name of a queue": ("=N53W4", "must be followed by its token"),
    "none": ("", '"=_" is the one without a name'),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_who_is_refused_learns_so_and_the_log_says_why_without_the_token(
    server: Guarded, auth: NatsAuth, openbao: OpenBao, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, reason = REFUSALS[case]
    token = await token_for(openbao, {"own": ALL})
    assert await refused(server, listed, token) < SOON
    assert reason in auth.log.replace('\\"', '"')
    await until_true(lambda: reason in server.log)
    assert token not in auth.log + server.log
    monkeypatch.setenv("VAULT_ADDR", openbao.address)
    monkeypatch.setenv("VAULT_TOKEN", token)
    told = await asyncio.to_thread(CliRunner().invoke, app, ["nats-auth", "--check", listed])
    assert (told.exit_code, reason in told.output, token in told.output) == (1, True, False)


@pytest.mark.parametrize("uses", [0, 1])
async def test_a_token_that_vault_does_not_know_or_that_counts_its_uses_is_refused(
    server: Guarded, auth: NatsAuth, openbao: OpenBao, uses: int
) -> None:
    root, admin = openbao.root_token, Vault(openbao.address)
    made = await admin.call(root, lambda client: client.auth.token.create(policies=["stint-client"], num_uses=uses))
    token = str(made["auth"]["client_token"])
    if not uses:
        await admin.revoke_self(token)
    await refused(server, "own", token)
    await until_true(lambda: ("limited number of uses" if uses else "lookup-self, code 403") in auth.log)
    assert token not in auth.log + server.log


async def test_a_clock_that_is_behind_shortens_no_login(
    server: Guarded, callout: Start, openbao: OpenBao, tmp_path: Path
) -> None:
    """The server judges when a login ends, so that counts from the time at which the server asked."""
    behind = "import time\nown = time.time\ntime.time = lambda: own() - 86400\n"
    (tmp_path / "sitecustomize.py").write_text(behind)
    token = await token_for(openbao, {"own": ALL}, ttl="1h")
    async with callout(PYTHONPATH=str(tmp_path)), connected(server, "own", token) as (client, denied):
        assert await permitted(client, denied, f"ev.{JOB}.{OWN}.submitted")


@pytest.mark.soak
async def test_a_service_is_ready_again_once_nats_knows_the_key_that_it_signs_with(
    accounts: Accounts, openbao: OpenBao, tmp_path: Path
) -> None:
    """NATS tells only its log that it does not know the key."""
    known, own = issuer_key(accounts.folder / CALLOUT), issuer_key(tmp_path)
    token = await token_for(openbao, {"own": ALL})
    other = {"STINT_NATS_AUTH_ISSUER_FILE": str(tmp_path / ISSUER_FILE)}
    async with (
        accounts.declared(tmp_path / "nats") as server,
        nats_auth(server, openbao, tmp_path / "auth", **other) as auth,
    ):
        for _ in range(ENOUGH):
            await refused(server, "own", token)
        assert len(auth.said("login accepted")) == ENOUGH
        await until(lambda: readyz(auth.port), lambda said: NOT_LET_IN in said)
        server.settings = server.settings.replace(known, own)
        await server.restart()
        await until(lambda: accepted(Access(url=server.url, user="own", password=token)))
        await until(lambda: readyz(auth.port), lambda said: said.startswith("ready"))


@pytest.mark.soak
async def test_a_login_lasts_as_long_as_token_or_maximum(server: Guarded, callout: Start, openbao: OpenBao) -> None:
    for seconds, ttl in ((SECONDS, "1h"), (600, f"{SECONDS}s")):
        async with callout(STINT_NATS_AUTH_SECONDS=str(seconds)):
            token = await token_for(openbao, {"own": ALL}, ttl=ttl)
            begun = time.monotonic()
            async with connected(server, "own", token) as (client, _):
                await until_true(partial(getattr, client, "is_closed"))
                assert "user authentication expired" in str(client.last_error)
            assert SECONDS - 2 < time.monotonic() - begun < SECONDS + SOON


async def test_the_library_for_publishers_logs_in_again_when_its_login_has_ended(
    server: Guarded, callout: Start, openbao: OpenBao
) -> None:
    async with callout(STINT_NATS_AUTH_SECONDS="1") as auth, Publisher(*await publishing(server, openbao)) as stint:
        await until_true(lambda: len(auth.said("login accepted")) > 1)
        assert (await stint.job("own", JOB)).id == JOB


@pytest.mark.usefixtures("auth")
async def test_a_publisher_whose_connection_was_closed_for_good_is_told(
    server: Guarded, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "LOOK", 0.1)
    async with Publisher(*await publishing(server, openbao)) as stint:
        job = await stint.job("own", JOB)
        for number in range(SUBSCRIPTIONS):
            await stint._broker.client.subscribe(tail_subject(OWN, f"{number:024x}"))  # noqa: SLF001 - as many as it takes
        with pytest.raises(BrokerClosedError, match="subscriptions"):
            await job.wait(timeout=60)


async def publishing(server: Guarded, openbao: OpenBao) -> tuple[Access, Endpoints]:
    """What the library for publishers needs."""
    token = await token_for(openbao, {"own": ALL})
    where = Endpoints(url="", vault_addr=openbao.address, token=token, role=ROLE)
    return Access(url=server.url, user="own", password=token), where


@pytest.mark.soak
async def test_without_the_service_publishers_are_refused(server: Guarded, callout: Start, openbao: OpenBao) -> None:
    token = await token_for(openbao, {"own": ALL})
    async with callout() as auth, connected(server, "own", token) as (client, denied):
        await auth.kill()
        assert await refused(server, "own", token) < SOON
        assert await permitted(client, denied, f"ev.{JOB}.{OWN}.submitted")
        for user in ("api", "runner", "projector", "operator"):
            async with server.connected(user) as service:
                assert service.client.is_connected
        assert not await accepted(server.access("team"))
        await auth.start()
        async with connected(server, "own", token):
            pass


async def test_each_of_two_services_answers(server: Guarded, callout: Start, openbao: OpenBao) -> None:
    token = await token_for(openbao, {"own": ALL})
    async with callout() as first, callout() as second:

        async def both_have_answered() -> bool:
            async with connected(server, "own", token):
                pass
            return all("login accepted" in auth.log for auth in (first, second))

        await until(both_have_answered, bool)
        await first.stop()
        async with connected(server, "own", token):
            pass


@pytest.mark.soak
@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_without_vault_logins_are_refused(server: Guarded, callout: Start, tmp_path: Path, how: str) -> None:
    async with running(bao := BaoProcess(tmp_path / "bao")):
        token = await token_for(bao, {"own": ALL})
        async with callout(bao) as auth:
            await bao.kill() if how == "kill" else bao.pause()
            try:
                assert await refused(server, "own", token) < SOON
            finally:
                if how == "pause":
                    bao.resume()
            said = "Vault does not answer in time." if how == "pause" else f"Vault at {bao.address}"
            await until_true(lambda: said in auth.log)


async def test_the_service_itself_may_only_answer_write_whose_keys_are_and_close_connections(server: Guarded) -> None:
    """With its seeds it could let anybody into any account; its key alone reaches no stream."""
    async with server.connected(CALLOUT) as broker:
        for subject in (
            *(f"ev.{JOB}.{OWN}.submitted", "$SYS.REQ.USER.AUTH", "_INBOX.x", "$SYS._INBOX.x", "$KV.sessions.x"),
            *(f"$KV.signers.api.U{'A' * 55}", "$SYS.REQ.SERVER.PING.KICK.x", "$SYS.REQ.SERVER.x.RELOAD"),
            *(f"{JS_PREFIX}.STREAM.{call}" for call in ("MSG.GET.EVENTS", "INFO.KV_signers", "PURGE.KV_signers")),
        ):
            await broker.client.publish(subject, b"{}")
        for subject in ("ev.>", ">", "$SYS.>", "$SYS.REQ.USER.AUTH"):
            await broker.client.subscribe(subject)
        await answered(broker.client)
        assert "permissions violation" in str(broker.client.last_error).lower()
        await until_true(lambda: denials(server, broker) == 15)


def denials(server: Guarded, broker: Broker) -> int:
    """How often the server has said no to this connection."""
    found = [line for line in server.log.splitlines() if f"cid:{broker.client.client_id} " in line]
    return sum("Violation" in line for line in found)


async def test_junk_for_the_service_changes_nothing(server: Guarded, auth: NatsAuth, openbao: OpenBao) -> None:
    """What a client sends before it is let in."""
    users: list[Any] = ["", "\x00", "x" * 3000, '{"a":1}', "ü", "a,,b"]
    for user in users:
        await refused(server, user, "no token")
    async with connected(server, "own", await token_for(openbao, {"own": ALL})):
        pass
    assert "Traceback" not in auth.log


async def test_one_service_in_a_cluster_answers_all(accounts: Accounts, openbao: OpenBao, tmp_path: Path) -> None:
    token = await token_for(openbao, {"own": ALL})
    here, there = accounts.cluster(tmp_path)
    async with running(here), running(there), nats_auth(here, openbao, tmp_path / "auth"):
        access = Access(url=there.url, user="own", password=token)
        await until(lambda: accepted(access))  # once the servers have told each other who listens
        await refused(there, "other", token)


@pytest.mark.soak
async def test_servers_part_from_a_frozen_one_whose_service_answers_elsewhere(
    accounts: Accounts, openbao: OpenBao, tmp_path: Path
) -> None:
    """As long as they believe in it, it gets its share of the logins. By NATS' own settings that took 80 s."""
    token = await token_for(openbao, {"own": ALL})
    first, second, asked = accounts.cluster(tmp_path, 3)

    async def all_let_in() -> bool:
        access = Access(url=asked.url, user="own", password=token)
        for _ in range(10):
            if not await accepted(access):
                return False
        return True

    async with running(first), running(second), running(asked):
        urls = f"{first.url},{second.url}"
        async with nats_auth(first, openbao, tmp_path / "auth", STINT_NATS_URL=urls) as auth:
            frozen = first if f":{first.port}" in auth.log else second
            await until(all_let_in)
            frozen.pause()
            try:
                await until(all_let_in, seconds=60)
            finally:
                frozen.resume()
