"""The stream of all jobs' changes, from an API as a process, and that of a job: and the rights to hear of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest

import stint
from stint.client.rest.live import LiveEvent, parse_events
from stint.core.codec import encode
from stint.core.view import JobView
from stint.jetstream import Broker, JetStreamViews
from tests.support.answers import json_of
from tests.support.api_bench import BODY
from tests.support.brokers import connected
from tests.support.servers import NatsProcess, OpenBao
from tests.support.vault_bench import as_root
from tests.support.views import job_view

EVENTS = "/v1/api/events"
WITHIN = 30


@pytest.fixture(scope="module")
async def broker(nats: NatsProcess) -> AsyncIterator[Broker]:
    async with connected(nats.url) as broker:
        yield broker


@asynccontextmanager
async def listening(
    http: httpx.AsyncClient, *, within: float = WITHIN, **options: Any
) -> AsyncIterator[AsyncIterator[LiveEvent]]:
    """The events of a stream behind its `hello`."""
    async with asyncio.timeout(within), http.stream("GET", EVENTS, **options) as answer:
        assert answer.status_code == httpx.codes.OK
        events = parse_events(answer.aiter_lines())
        hello = await anext(events)
        assert (hello.name, hello.data) == ("hello", {"release": stint.__version__, "resumed": False})
        yield events


async def put(broker: Broker, job: JobView) -> None:
    views = JetStreamViews(broker)
    stored = await views.get(job.job_id)
    assert await views.put(job.job_id, encode(job), revision=stored.revision if stored else 0, ttl=None)


@pytest.mark.soak
async def test_a_client_hears_of_the_queues_that_it_may_read_until_it_may_not(
    http: httpx.AsyncClient, broker: Broker, openbao: OpenBao
) -> None:
    admin = partial(as_root, openbao)
    rule = 'path "stint/queue/mine" { capabilities = ["read"] }'
    await admin(lambda c: c.sys.create_or_update_policy("reads-mine", rule))
    created = await admin(lambda c: c.auth.token.create(policies=["reads-mine"], ttl="5m", num_uses=5))
    mine = {"X-Auth-Token": str(created["auth"]["client_token"])}
    assert (await http.get(EVENTS, params={"qname": "theirs"}, headers=mine)).status_code == 403
    job_id = json_of(await http.post("/v1/api/job", json={**BODY, "qname": "mine"}))["_id"]
    async with (
        http.stream("GET", f"/v1/api/job/{job_id}/events", headers=mine) as answer,
        listening(http, headers=mine) as some,
        listening(http, headers=mine, params={"qname": "mine"}) as one,
        listening(http) as whole,
    ):
        of_job = (event async for event in parse_events(answer.aiter_lines()) if event.name)  # a ping has none
        assert (await anext(of_job)).name == "fact"
        for number, qname in enumerate(("theirs", "mine", "theirs", "mine")):
            await put(broker, job_view(number, qname=qname))
        assert [(await anext(whole)).data["qname"] for _ in range(4)] == ["theirs", "mine", "theirs", "mine"]
        await JetStreamViews(broker).delete(f"{3:024x}")
        gone = {"_id": f"{3:024x}", "qname": "mine"}
        for events in (some, one):
            told = [await anext(events) for _ in range(3)]
            assert [event.name for event in told] == ["job", "job", "gone"]
            assert [int(event.data["_id"], 16) for event in told] == [1, 3, 3]
            assert (told[-1].data, "output" in told[0].data) == (gone, False)
        await admin(lambda c: c.sys.delete_policy("reads-mine"))
        for refused in (await anext(one), await anext(of_job)):
            assert (refused.name, '"read" on "stint/queue/mine"' in refused.data["error"]) == ("refused", True)
        await admin(lambda c: c.auth.token.revoke(mine["X-Auth-Token"]))
        assert (await anext(some)).name == "refused"
