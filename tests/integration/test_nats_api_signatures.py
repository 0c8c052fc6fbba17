"""What the API wrote is proven to be its own, where direct publishers may write the same; and a copy proves nothing."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from stint.core.audit.signature import verified_signer
from stint.core.codec import encode
from stint.core.names.headers import SIGNATURE
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, SIGNERS_BUCKET, api_signer_key, kv_stream
from stint.core.names.subjects import EventAddress, event_filter
from stint.jetstream import Broker, Bucket, JetStreamEventLog
from stint.jetstream.streams.stream import Stream
from stint.jetstream.streams.topology import stream_configs
from stint.jetstream.wire.protocol import ErrorCode, RawMessage, subject_of
from stint.vault import Vault
from tests.support import events
from tests.support.accounts import Accounts, Guarded
from tests.support.answers import json_of
from tests.support.api_bench import BODY, Api, api_process
from tests.support.audited import receipt_says, said, shown
from tests.support.servers import OpenBao, running
from tests.support.waiting import until, until_true

RIVAL = "rival"
QUEUE, OTHER = queue_token("deploys"), queue_token("other")
JOB = "/v1/api/job"


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "keys", {RIVAL: ["deploys", "other"]})


@pytest.fixture
async def server(accounts: Accounts, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with running(server := Guarded(tmp_path / "nats", accounts=accounts)):
        yield server


Start = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
def an_api(server: Guarded, openbao: OpenBao, tmp_path: Path) -> Start:
    """Starts one, with further settings, and the key that the API has then."""

    def started(**settings: str) -> AbstractAsyncContextManager[Api]:
        folder = tmp_path / server.accounts.key("api")
        return api_process(folder, server.url, openbao, **server.accounts.environ("api"), **settings)

    return started


async def submitted(http: httpx.AsyncClient, **headers: str) -> str:
    return str(json_of(await http.post(JOB, json=BODY, headers=headers))["_id"])


async def stored(operator: Broker, kind: str, job_id: str) -> RawMessage:
    message = await Stream(operator, EVENTS).last(event_filter(kind, "*", job_id))
    assert message
    return message


def signature_of(message: RawMessage) -> str:
    return (message.headers or {}).get(SIGNATURE, "")


def signer_of(message: RawMessage) -> str:
    return verified_signer(signature_of(message), subject_of(message), message.data)


async def caller(http: httpx.AsyncClient, openbao: OpenBao) -> tuple[Any, ...]:
    """How an entry names who uses this client, if it is proven."""
    found = await Vault(openbao.address).lookup_self(http.headers["X-Auth-Token"])
    assert found.accessor
    return found.display_name, found.entity_id, found.accessor, "", True, ""


async def test_who_uses_rest_is_proven(server: Guarded, openbao: OpenBao, an_api: Start, operator: Broker) -> None:
    """Also of a kill that ends a queued job, which is a batch, and of a submission that comes again."""
    own = server.accounts.key("api")
    async with an_api() as (_, http):
        running_job, queued = await submitted(http), await submitted(http, **{"Idempotency-Key": "one"})
        assert await submitted(http, **{"Idempotency-Key": "one"}) == queued
        async with server.connected("runner") as runner:
            await JetStreamEventLog(runner).append(QUEUE, running_job, events.started())
        proven = await caller(http, openbao)
        for job_id in (running_job, queued):
            assert (await http.post(f"{JOB}/kill/{job_id}")).is_success
            entries = await shown(http, job_id, 2)
            assert [entry["action"] for entry in entries] == ["kill_requested", "submitted"]
            assert {said(entry) for entry in entries} == {proven}
            for kind in ("submitted", "kill_requested"):
                assert signer_of(await stored(operator, kind, job_id)) == own
        assert not signature_of(await stored(operator, "ended", queued)), "which no publisher may write"
        asked = dict(zip(("who", "entity", "accessor", "nats_user"), proven, strict=False))
        await receipt_says(server, http, running_job, asked)


@pytest.mark.soak
async def test_a_copy_of_its_signature_proves_nothing(server: Guarded, an_api: Start, operator: Broker) -> None:
    """On another job, in another queue, of another body or of another kind; nor can it be stored where it was."""
    async with an_api() as (_, http), server.connected(RIVAL) as rival:
        job_id = await submitted(http)
        assert (await http.post(f"{JOB}/kill/{job_id}")).is_success
        theirs = {kind: await stored(operator, kind, job_id) for kind in ("submitted", "kill_requested")}

        async def copied(kind: str, token: str, signed_as: str, body: bytes) -> None:
            """A job of the rival, with an event that has the signature of the API's event of the kind `signed_as`."""
            own = secrets.token_hex(12)
            subject = EventAddress("submitted", token, own).subject
            if kind != "submitted":
                assert "error" not in await rival.publish(subject, encode(events.submitted()))
            header = {SIGNATURE: signature_of(theirs[signed_as])}
            assert "error" not in await rival.publish(EventAddress(kind, token, own).subject, body, header)
            entries = await shown(http, own, 1 if kind == "submitted" else 2)
            assert (entries[0]["action"], {entry["proven"] for entry in entries}) == (kind, {False})

        for kind, message in theirs.items():
            assert signer_of(message) == server.accounts.key("api")
            for token in (QUEUE, OTHER):
                await copied(kind, token, kind, message.data)
            again = await rival.publish(subject_of(message), message.data, {SIGNATURE: signature_of(message)})
            assert again["error"]["err_code"] == ErrorCode.SUBJECT_TAKEN
        forged = msgspec.structs.replace(events.kill_requested(), by="root")
        await copied("kill_requested", QUEUE, "kill_requested", encode(forged))
        await copied("kill_requested", QUEUE, "submitted", theirs["kill_requested"].data)


@pytest.mark.soak
async def test_another_body_under_its_signature_is_unproven_where_the_signature_was_made(
    server: Guarded, an_api: Start, operator: Broker
) -> None:
    """On the very subject: all of the job's events have been removed, and its id can be used again."""
    async with an_api() as (_, http), server.connected(RIVAL) as rival:
        job_id = await submitted(http)
        message = await stored(operator, "submitted", job_id)
        await Stream(operator, EVENTS).purge(event_filter("*", "*", job_id))
        event = msgspec.json.decode(message.data) | {"by": "root"}
        header = {SIGNATURE: signature_of(message)}
        assert "error" not in await rival.publish(subject_of(message), msgspec.json.encode(event), header)
        (entry,) = await until(lambda: shown(http, job_id), lambda found: found[0]["who"] == "root")
        assert not entry["proven"]


@pytest.mark.soak
async def test_what_it_signed_stays_proven_after_a_rotation(server: Guarded, an_api: Start, operator: Broker) -> None:
    signers, old = Bucket(operator, SIGNERS_BUCKET), server.accounts.key("api")
    async with an_api() as (_, http):
        before = await submitted(http)
        await until(lambda: signers.read(api_signer_key(old)))
    server.accounts.seed_file("api").unlink()
    new = server.accounts.key("api")
    server.settings = server.accounts.settings
    server.reload()
    async with an_api() as (_, http):
        after = await submitted(http)
        assert [signer_of(await stored(operator, "submitted", job_id)) for job_id in (before, after)] == [old, new]
        for job_id in (before, after):
            (entry,) = await shown(http, job_id)
            assert (entry["who"], entry["proven"]) == ("token-stint-client", True)
        await signers.delete(api_signer_key(old))  # by the operator, because it was stolen
        (entry,) = await shown(http, before)
        assert said(entry) == ("", "", "", old, True, "token-stint-client")


@pytest.mark.soak
async def test_jobs_are_submitted_and_proven_while_nats_does_not_store_the_key(
    server: Guarded, an_api: Start, operator: Broker
) -> None:
    own, stream = server.accounts.key("api"), kv_stream(SIGNERS_BUCKET)
    (config,) = [one for one in stream_configs(1) if one["name"] == stream]
    await operator.api(f"STREAM.CREATE.{stream}", config | {"max_msg_size": 1})
    async with an_api() as (api, http):
        (entry,) = await shown(http, await submitted(http))
        assert (entry["who"], entry["proven"]) == ("token-stint-client", True)
        await until_true(lambda: "the API's key could not be recorded, retrying" in api.log)
        assert (await http.get("/readyz")).is_success
        await operator.api(f"STREAM.UPDATE.{stream}", config)
        signers = Bucket(operator, SIGNERS_BUCKET)
        await until(lambda: signers.read(api_signer_key(own)), lambda found: found is not None)


@pytest.mark.soak
async def test_its_key_is_recorded_again_before_it_expires(server: Guarded, an_api: Start, operator: Broker) -> None:
    key, signers = api_signer_key(server.accounts.key("api")), Bucket(operator, SIGNERS_BUCKET)
    async with an_api(STINT_HISTORY="4"):
        seen = set[int]()

        async def renewed() -> bool:
            entry = await signers.read(key)
            assert not (seen and (entry is None or entry.value is None)), "it has expired"
            seen.update([entry.revision] if entry else [])
            return len(seen) > 3

        await until(renewed)  # for longer than one record lasts
