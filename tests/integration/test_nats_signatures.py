"""Who wrote what a direct publisher wrote: proven by its key, or by its Vault token; and what proves nothing."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import httpx
import msgspec
import nats.errors
import pytest
from nats.aio.client import Client

from stint.client import Endpoints
from stint.core.audit.signature import KeyOwner
from stint.core.codec import encode
from stint.core.events import AnyEvent
from stint.core.names.headers import SIGNATURE
from stint.core.names.ids import queue_token
from stint.core.names.streams import SIGNERS_BUCKET
from stint.core.names.subjects import EventAddress, publisher_inbox
from stint.jetstream import Access, Broker, Bucket, EventSigner, JetStreamKeyOwners, declare
from stint.jetstream.signatures import RENEWED
from stint.publisher import Publisher
from stint.vault import Vault
from tests.support import events
from tests.support.accounts import (
    Accounts,
    Guarded,
    NatsAuth,
    VaultIdentity,
    logged_in,
    nats_auth,
    token_for,
)
from tests.support.api_bench import api_process
from tests.support.audited import receipt_says, said, shown
from tests.support.servers import OpenBao, running
from tests.support.vault_bench import ROLE
from tests.support.waiting import until, until_there

TEAM, RIVAL = "ci", "rival"


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    return Accounts(tmp_path_factory.mktemp("keys"), {TEAM: ["deploys"], RIVAL: ["deploys", "other"]}, auth=True)


@pytest.fixture(scope="module")
async def auth(server: Guarded, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsAuth]:
    async with nats_auth(server, openbao, tmp_path_factory.mktemp("auth")) as auth:
        yield auth


@pytest.fixture(scope="module")
async def http(
    server: Guarded, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    folder = tmp_path_factory.mktemp("api")
    async with api_process(folder, server.url, openbao, **server.accounts.environ("api")) as (_, http):
        yield http


@pytest.mark.usefixtures("auth")
async def test_a_publisher_is_proven_by_its_key(server: Guarded, openbao: OpenBao, http: httpx.AsyncClient) -> None:
    token = await token_for(openbao, {"deploys": ["create"]})
    where = Endpoints(url="", vault_addr=openbao.address, token=token, role=ROLE)
    async with Publisher(server.access(TEAM), where) as stint:
        job = await stint.submit(queue="deploys", image="busybox")
        await job.kill()
    found = await shown(http, job.id, 2)
    nkey = server.accounts.key(TEAM)
    assert [entry["action"] for entry in found] == ["kill_requested", "submitted"]
    assert {said(entry) for entry in found} == {("", "", "", nkey, True, "publisher")}
    assert len(await shown(http, job.id, 2, who=nkey)) == 2
    await receipt_says(server, http, job.id, {"who": "", "entity": "", "accessor": "", "nats_user": nkey})


async def test_a_publisher_with_a_vault_token_is_proven_to_be_its_identity(
    server: Guarded, openbao: OpenBao, http: httpx.AsyncClient, auth: NatsAuth, operator: Broker
) -> None:
    token = await (await VaultIdentity.new(openbao, "deploys")).token()
    caller = await Vault(openbao.address).lookup_self(token)
    assert caller.entity_id
    where = Endpoints(url="", vault_addr=openbao.address, token=token, role=ROLE)
    async with Publisher(Access(url=server.url, user="deploys", password=token), where) as stint:
        await named(server, operator, token, stint._signer)  # noqa: SLF001 - the key that its connection has
        job = await stint.submit(queue="deploys", image="busybox")
        await job.kill()
    found = await shown(http, job.id, 2)
    nkey = found[0]["nats_user"]
    proven = (caller.display_name, caller.entity_id, caller.accessor, nkey, True, "publisher")
    assert ({said(entry) for entry in found}, nkey[0]) == ({proven}, "U")
    for name in (caller.entity_id, caller.accessor, nkey):
        assert len(await shown(http, job.id, 2, who=name)) == 2, "also by what the event does not say"
    asked = dict(zip(("who", "entity", "accessor", "nats_user"), proven, strict=False))
    await receipt_says(server, http, job.id, asked)
    assert token not in auth.log + server.log


class Forger:
    """Somebody who may publish to the queue, with a key, and who claims to be the victim."""

    def __init__(self, broker: Broker, server: Guarded, name: str) -> None:
        self.broker, self.victim = broker, server.accounts.key(TEAM)
        self.own = EventSigner(seed=server.accounts.seed_file(name).read_text())
        self.job_id = secrets.token_hex(12)
        claims = {"by": "root", "by_entity": "the victim's", "by_accessor": "the victim's", "by_nats_user": self.victim}
        self.event: AnyEvent = msgspec.structs.replace(events.submitted(), **claims)

    @property
    def subject(self) -> str:
        return EventAddress("submitted", queue_token("deploys"), self.job_id).subject

    def signed(self) -> str:
        """The signature of the submission with its own key."""
        return self.own.signature(self.subject, encode(self.event))

    async def publish(self, signature: str) -> None:
        """Publish the submission with this signature."""
        answer = await self.broker.publish(
            self.subject, encode(self.event), {SIGNATURE: signature} if signature else {}
        )
        assert "error" not in answer, answer


@pytest.fixture
async def forger(server: Guarded) -> AsyncIterator[Forger]:
    """The rival, who knows the public half of the victim's key."""
    async with server.connected(RIVAL) as rival:
        yield Forger(rival, server, RIVAL)


@pytest.mark.parametrize("signed", [False, True])
async def test_a_signature_that_is_not_right_counts_as_none(
    http: httpx.AsyncClient, forger: Forger, signed: bool
) -> None:
    """Which ones are right, `tests/unit/test_signature.py` shows."""
    await forger.publish(f"{forger.victim}.{forger.signed().partition('.')[2]}" if signed else "")
    (found,) = await shown(http, forger.job_id)
    assert said(found) == ("root", "the victim's", "the victim's", forger.victim, False, "")


async def test_anothers_signature_proves_nothing_on_another_job(
    server: Guarded, http: httpx.AsyncClient, forger: Forger
) -> None:
    """Not even with exactly the same body, in the same queue."""
    async with server.connected(TEAM) as team:
        theirs = Forger(team, server, TEAM)
        signature = theirs.signed()
        await theirs.publish(signature)
    forger.event = theirs.event
    await forger.publish(signature)
    answer = await forger.broker.publish(theirs.subject, encode(theirs.event), {SIGNATURE: signature})
    assert answer["error"]["err_code"] == 10077, "nor can it be repeated where it was"
    ((right,), (wrong,)) = await shown(http, theirs.job_id), await shown(http, forger.job_id)
    assert (right["proven"], wrong["proven"], wrong["who"]) == (True, False, "root")


async def test_a_right_signature_hides_what_the_body_claims_but_a_name(http: httpx.AsyncClient, forger: Forger) -> None:
    await forger.publish(forger.signed())
    (found,) = await shown(http, forger.job_id)
    assert said(found) == ("", "", "", forger.own.nkey, True, "root")


def with_key(server: Guarded, token: str, signer: EventSigner, proof: str = "") -> AbstractAsyncContextManager[Client]:
    """A publisher's connection with this token and this key. The proof of the key may be a wrong one."""
    inbox = publisher_inbox(token)
    proof = proof or signer.signature(inbox, b"")
    return logged_in(server.url, user=f"deploys,={proof}", password=token, inbox_prefix=inbox)


async def refused(server: Guarded, token: str, signer: EventSigner, proof: str = "") -> None:
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        async with with_key(server, token, signer, proof):
            pass


async def owner_of(operator: Broker, signer: EventSigner) -> KeyOwner | None:
    return (await JetStreamKeyOwners(operator).read([signer.nkey])).get(signer.nkey)


async def named(server: Guarded, operator: Broker, token: str, signer: EventSigner) -> KeyOwner:
    """Whose the key is. Log in with it until that is stored: no login waits for it for long."""

    async def after_a_login() -> KeyOwner | None:
        async with with_key(server, token, signer):
            return await owner_of(operator, signer)

    return await until_there(after_a_login)


async def test_a_key_belongs_to_the_identity_that_first_logs_in_with_it(
    server: Guarded, openbao: OpenBao, auth: NatsAuth, operator: Broker
) -> None:
    """Even to somebody who has stolen it."""
    owner, thief, signer = *[await VaultIdentity.new(openbao, "deploys") for _ in range(2)], EventSigner.new()
    token = await owner.token()
    found = await named(server, operator, token, signer)
    caller = await Vault(openbao.address).lookup_self(token)
    assert (found.who, found.entity, found.accessor) == (caller.display_name, caller.entity_id, caller.accessor)
    stolen = await thief.token()

    async def is_refused() -> bool:
        """A login for which NATS does not say in time whose the key is goes through."""
        with suppress(nats.errors.Error):
            async with with_key(server, stolen, signer):
                return False
        return "The key has been used by another owner" in auth.log

    await until(is_refused)
    assert signer.nkey in auth.log, "also for those who look for it later"
    async with with_key(server, await owner.token(), signer):
        pass
    assert await owner_of(operator, signer) == found, "the first token stays the one that is named"


async def test_a_key_is_named_only_by_who_has_it(
    server: Guarded, openbao: OpenBao, auth: NatsAuth, operator: Broker
) -> None:
    """Neither that of a user of the configuration, nor one whose proof was heard."""
    victim, thief = [await (await VaultIdentity.new(openbao, "deploys")).token() for _ in range(2)]
    signer = EventSigner.new()
    await refused(server, thief, signer, signer.signature(publisher_inbox(victim), b""))
    assert "must be one signature" in auth.log
    assert await owner_of(operator, signer) is None
    team = server.accounts.key(TEAM)
    await refused(server, thief, signer, f"{team}.{signer.signature(publisher_inbox(thief), b'').partition('.')[2]}")
    assert await JetStreamKeyOwners(operator).read([team]) == {}


async def test_a_login_waits_for_no_record_of_its_key(accounts: Accounts, openbao: OpenBao, tmp_path: Path) -> None:
    token, signer, subject = (
        await (await VaultIdentity.new(openbao, "deploys")).token(),
        EventSigner.new(),
        "$KV.signers.*",
    )
    async with (
        running(server := Guarded(tmp_path / "nats", accounts=accounts)),
        nats_auth(server, openbao, tmp_path / "auth") as auth,
        server.connected("operator") as operator,
    ):
        async with with_key(server, token, signer):
            assert auth.log.count("could not be stored") == 1, "there is no stream"
        async with operator.subscribe(subject) as asked:  # a server that does not answer
            async with with_key(server, token, signer):
                assert asked.pending_msgs == 1
            assert "NATS does not answer in time." in auth.log
        await declare(operator)
        await named(server, operator, token, signer)  # a later login stores it


async def test_an_entry_lasts_as_long_as_its_key_is_used(broker: Broker) -> None:
    signer, ttl = EventSigner.new().nkey, 3600.0
    ann, bob = (KeyOwner(owner=name, who=name, at=1000) for name in ("ann", "bob"))
    owners, bucket = JetStreamKeyOwners(broker), Bucket(broker, SIGNERS_BUCKET)

    async def claimed(owner: KeyOwner, later: int, ttl: float = ttl) -> tuple[bool, int]:
        own = await owners.claim(signer, msgspec.structs.replace(owner, at=owner.at + later), ttl=ttl)
        entry = await bucket.read(signer)
        assert entry
        return own, entry.revision

    own, first = await claimed(ann, 0)
    assert own
    assert await claimed(ann, RENEWED - 1) == (True, first)
    assert await claimed(bob, 2 * RENEWED) == (False, first)
    own, second = await claimed(ann, RENEWED, ttl=1)
    assert (own, second > first) == (True, True)

    async def expired() -> bool:
        entry = await bucket.read(signer)
        return entry is None or entry.value is None

    await until(expired)
    assert (await claimed(bob, 0))[0], "after its time it is nobody's"
    assert (await owners.read([signer, "UNKNOWN"]))[signer].who == "bob"
