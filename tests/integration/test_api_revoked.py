"""A live stream ends with its caller's right to it, and says so."""

import asyncio
from functools import partial
from typing import Any

import httpx
import pytest

from stint.client.rest.api import Api
from stint.client.rest.live import LiveEvent
from tests.support.api_bench import submitted
from tests.support.servers import OpenBao
from tests.support.vault_bench import as_root

pytestmark = pytest.mark.soak

WITHIN = 20
"""Seconds that an end may take: a check each five, and a busy machine."""


class Stream:
    """All events of a job but pings, up to the stream's end, as a caller with this token hears them."""

    def __init__(self, owner: httpx.AsyncClient, job_id: str, token: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=owner.base_url, headers={"X-Auth-Token": token}, timeout=3 * WITHIN, trust_env=False
        )
        self.begun = asyncio.Event()
        self.events = asyncio.create_task(self._read(job_id))

    async def _read(self, job_id: str) -> list[LiveEvent]:
        found = []
        async with self._http as http:
            async for event in Api(http).events(f"/v1/api/job/{job_id}/events"):
                if event.name:
                    found.append(event)
                    self.begun.set()
        return found

    async def last(self) -> LiveEvent:
        return (await self.events)[-1]


@pytest.fixture(scope="module", params=["vault", "any"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"STINT_AUTHZ": request.param}


async def test_a_stream_ends_with_its_token_or_policy_and_no_other_does(
    settings: dict[str, str], http: httpx.AsyncClient, openbao: OpenBao
) -> None:
    """Side by side, for each waits for the next check."""
    owner, by_policy = http, settings["STINT_AUTHZ"] == "vault"

    admin = partial(as_root, openbao)

    async def token(policy: str = "stint-client", **options: Any) -> str:
        answer = await admin(lambda c: c.auth.token.create(policies=[policy], ttl="5m", **options))
        return str(answer["auth"]["client_token"])

    rule = 'path "stint/queue/*" { capabilities = ["read"] }'
    await admin(lambda c: c.sys.create_or_update_policy("reader-for-now", rule))
    job_id, revoked = await submitted(owner), [await token(), await token(num_uses=5)]
    ending = [Stream(owner, job_id, one) for one in revoked]
    staying = [Stream(owner, job_id, await token(num_uses=5)), Stream(owner, job_id, owner.headers["X-Auth-Token"])]
    reader = Stream(owner, job_id, await token("reader-for-now"))
    async with asyncio.timeout(3 * WITHIN):
        await asyncio.gather(*(stream.begun.wait() for stream in (*ending, *staying, reader)))
        await admin(lambda c: c.sys.delete_policy("reader-for-now"))
        for one in revoked:
            await admin(lambda c, one=one: c.auth.token.revoke(one))  # type: ignore[misc] # its default
        async with asyncio.timeout(WITHIN):
            for told in await asyncio.gather(*(stream.events for stream in ending)):
                assert [event.name for event in told] == ["fact", "refused"]
                assert told[-1].data["status"] == "Permission Denied."
                assert told[-1].data["error"]
            if by_policy:
                last = await reader.last()
                assert (last.name, '"read" on "stint/queue/deploys"' in last.data["error"]) == ("refused", True)
        assert not any(stream.events.done() for stream in staying)
        await owner.post(f"/v1/api/job/kill/{job_id}")
        staying += [] if by_policy else [reader]
        assert [(await stream.last()).name for stream in staying] == ["end"] * len(staying)
