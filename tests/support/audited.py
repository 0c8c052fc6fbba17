"""What the audit and a receipt say of a job."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from stint.core.names.ids import queue_token
from stint.jetstream import JetStreamEventLog
from tests.support import events
from tests.support.accounts import Guarded
from tests.support.waiting import until


async def shown(http: httpx.AsyncClient, job_id: str, wanted: int = 1, **params: str) -> Sequence[dict[str, Any]]:
    """What the audit says of this job, the newest first."""

    async def look() -> Sequence[dict[str, Any]]:
        answer = await http.get("/v1/api/audit", params=params)
        return [one for one in answer.json()["data"] if one["job"] == job_id] if answer.is_success else []

    return await until(look, lambda found: len(found) == wanted)


def said(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[name] for name in ("who", "entity", "accessor", "nats_user", "proven", "claimed"))


async def receipt_says(server: Guarded, http: httpx.AsyncClient, job_id: str, asked: Mapping[str, str]) -> None:
    """End the job, and look whom its receipt names."""
    async with server.connected("runner") as runner:
        await JetStreamEventLog(runner).append(queue_token("deploys"), job_id, events.ended())
    answer = await http.get(f"/v1/api/job/{job_id}/receipt")
    assert answer.json()["receipt"]["asked"] == {**asked, "proven": True}, answer.text
