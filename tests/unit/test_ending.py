"""What a request is told that is cancelled as the API ends."""

import asyncio
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

from prometheus_client import Histogram
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from stint.core.codec import decode
from stint_api.middleware.telemetry import ENDED, Telemetry

METRICS = SimpleNamespace(durations=Histogram("seconds", "", list("abcd"), registry=None))
SCOPE: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "route": SimpleNamespace(path_format="/")}
BEGIN = {"type": "http.response.start", "status": 200, "headers": []}


async def cancelled(*messages: MutableMapping[str, Any]) -> tuple[list[MutableMapping[str, Any]], asyncio.Task[None]]:
    """What a client gets of a request that is cancelled once it has answered so much."""
    got, waiting = list[MutableMapping[str, Any]](), asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        waiting.set()
        await asyncio.Event().wait()

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        got.append(message)

    asking = asyncio.ensure_future(Telemetry(app, metrics=METRICS)(SCOPE, receive, send))  # type: ignore[arg-type] # a fake
    await waiting.wait()
    asking.cancel()
    await asyncio.wait({asking})
    return got, asking


async def test_a_request_without_an_answer_gets_a_503_that_names_no_job() -> None:
    with capture_logs() as logs:
        (begin, body), asking = await cancelled()
    assert (begin["status"], *(line["status"] for line in logs)) == (503, 503)
    assert decode(body["body"], dict) == {"status": "Service Unavailable.", "error": ENDED}
    assert not asking.cancelled()


async def test_an_answer_that_has_begun_is_cut_off() -> None:
    got, asking = await cancelled(BEGIN)
    assert got == [BEGIN]
    assert asking.cancelled()
