"""The stream of all jobs' changes, from an API as a process: rights, limits, and readers that are slow or go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest

import stint
from stint.client.rest.api import LiveEvent, parse_events
from stint.core.codec import encode
from stint.core.view import JobView
from stint.jetstream import Broker, JetStreamViews
from stint.ports import ViewPut
from stint_api.read.listing.feed import KEPT, SPARE
from tests.support.brokers import connected
from tests.support.servers import NatsProcess, OpenBao
from tests.support.vault_bench import as_root
from tests.support.views import job_view
from tests.support.waiting import until

EVENTS = "/v1/api/events"
WITHIN = 30
LIMIT = 5


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"STINT_STREAMS": str(LIMIT)}


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
    created = await admin(lambda c: c.auth.token.create(policies=["reads-mine"], ttl="5m", num_uses=4))
    mine = {"X-Auth-Token": str(created["auth"]["client_token"])}
    assert (await http.get(EVENTS, params={"qname": "theirs"}, headers=mine)).status_code == 403
    async with (
        listening(http, headers=mine) as some,
        listening(http, headers=mine, params={"qname": "mine"}) as one,
        listening(http) as whole,
    ):
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
        refused = await anext(one)
        assert (refused.name, '"read" on "stint/queue/mine"' in refused.data["error"]) == ("refused", True)
        await admin(lambda c: c.auth.token.revoke(mine["X-Auth-Token"]))
        assert (await anext(some)).name == "refused"


@pytest.mark.soak
async def test_streams_are_counted_and_a_slow_one_is_told_of_gaps(http: httpx.AsyncClient, broker: Broker) -> None:
    async with AsyncExitStack() as stack:
        first, *_ = [await stack.enter_async_context(listening(http, within=100)) for _ in range(LIMIT)]
        assert (await http.get(EVENTS)).status_code == 429
        large = msgspec.structs.replace(job_view(0), error="x" * 1000)
        ids = [f"{number:024x}" for number in range(1000, 1000 + KEPT + SPARE + 20_000)]
        views = JetStreamViews(broker)
        for start in range(0, len(ids), 500):
            some = [msgspec.structs.replace(large, job_id=job_id) for job_id in ids[start : start + 500]]
            assert await views.put_all([ViewPut(job.job_id, encode(job), 0, None) for job in some])
        await until(
            lambda: http.get("/v1/api/health?k=all_jobs"), lambda answer: int(answer.text) >= len(ids), seconds=100
        )
        told = 0
        async for event in first:
            if event.name == "hello":
                break
            told += 1
        assert (event.data["resumed"], told < len(ids)) == (False, True)
