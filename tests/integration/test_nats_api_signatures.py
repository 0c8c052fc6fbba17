"""What the API wrote is proven to be its own, where direct publishers may write the same; and a copy proves nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stint.core.audit.signature import verified_signer
from stint.core.names.headers import SIGNATURE
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, SIGNERS_BUCKET, api_signer_key, kv_stream
from stint.core.names.subjects import event_filter
from stint.jetstream import Broker, Bucket, JetStreamEventLog
from stint.jetstream.streams.stream import Stream
from stint.jetstream.streams.topology import stream_configs
from stint.jetstream.wire.protocol import RawMessage, subject_of
from stint.natsauth.keys import public_key
from stint.natsauth.roles import SEED_FILE
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
        folder = tmp_path / public_key(server.accounts.folder / "api")
        return api_process(folder, server.url, openbao, **server.accounts.environ("api"), **settings)

    return started


async def submitted(http: httpx.AsyncClient, **headers: str) -> str:
    return str(json_of(await http.post(JOB, json=BODY, headers=headers))["_id"])


async def stored(operator: Broker, kind: str, job_id: str) -> RawMessage:
    message = await Stream(operator, EVENTS).last(event_filter(kind, "*", job_id))
    assert message
    return message


def signer_of(message: RawMessage) -> str:
    text = (message.headers or {}).get(SIGNATURE, "")
    return verified_signer(text, subject_of(message), message.data)


async def caller(http: httpx.AsyncClient, openbao: OpenBao) -> tuple[Any, ...]:
    """How an entry names who uses this client, if it is proven."""
    vault = httpx.AsyncClient(base_url=openbao.address, trust_env=False)
    async with vault:
        token = {"X-Vault-Token": http.headers["X-Auth-Token"]}
        found = (await vault.get("/v1/auth/token/lookup-self", headers=token)).json()["data"]
    assert found["accessor"]
    return found["display_name"], found["entity_id"], found["accessor"], "", True, ""


async def test_who_uses_rest_is_proven(server: Guarded, openbao: OpenBao, an_api: Start, operator: Broker) -> None:
    """Also of a kill that ends a queued job, which is a batch, and of a submission that comes again."""
    own = public_key(server.accounts.folder / "api")
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
            assert {signer_of(await stored(operator, kind, job_id)) for kind in ("submitted", "kill_requested")} == {
                own
            }
        assert SIGNATURE not in ((await stored(operator, "ended", queued)).headers or {}), (
            "which no publisher may write"
        )
        asked = dict(zip(("who", "entity", "accessor", "nats_user"), proven, strict=False))
        await receipt_says(server, http, running_job, asked)


@pytest.mark.soak
async def test_what_it_signed_stays_proven_after_a_rotation(server: Guarded, an_api: Start, operator: Broker) -> None:
    signers, old = Bucket(operator, SIGNERS_BUCKET), public_key(server.accounts.folder / "api")
    async with an_api() as (_, http):
        before = await submitted(http)
        await until(lambda: signers.read(api_signer_key(old)))
    (server.accounts.folder / "api" / SEED_FILE).unlink()
    new = public_key(server.accounts.folder / "api")
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
async def test_jobs_are_proven_while_nats_stores_no_key(server: Guarded, an_api: Start, operator: Broker) -> None:
    own, stream = public_key(server.accounts.folder / "api"), kv_stream(SIGNERS_BUCKET)
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
    key, signers = api_signer_key(public_key(server.accounts.folder / "api")), Bucket(operator, SIGNERS_BUCKET)
    async with an_api(STINT_HISTORY="4"):
        seen = set[int]()

        async def renewed() -> bool:
            entry = await signers.read(key)
            assert not (seen and (entry is None or entry.value is None)), "it has expired"
            seen.update([entry.revision] if entry else [])
            return len(seen) > 3

        await until(renewed)  # for longer than one record lasts
