"""A whole stack whose services write the headers of CloudEvents: everything that reads events still does."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec
import pytest

from stint.core.names.streams import EVENTS
from stint.core.names.subjects import event_address, event_filter, live_filter
from stint.jetstream import Access
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.protocol import subject_of
from tests.support.accounts import connected
from tests.support.stack import dev
from tests.support.waiting import until

pytestmark = pytest.mark.soak


def attributes(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name: text for name, text in (headers or {}).items() if name.startswith("ce-")}


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_a_job_and_its_audit_are_as_ever(tmp_path: Path, setting: str) -> None:
    async with dev(tmp_path / "dev", STINT_CLOUDEVENTS=setting) as stack:
        key = (stack.data_dir / "nats" / "operator" / "STINT_NATS_NKEY").read_text()
        access = Access(url=stack.env["NATS_URL"], nkey=key)
        async with (
            connected(access, prefix="$JS.API") as operator,
            operator.subscribe(live_filter("ended", "*", "*")) as heard,
            stack.http() as http,
        ):
            job_id = await stack.submit("echo told")
            assert (await stack.end(job_id))["status"] == "success"
            assert (await stack.run("logs", job_id)).out == "told\n"
            live = attributes((await heard.next_msg(timeout=20)).headers)
            queue = await http.post("/v1/api/queue/e2e/pause", json={"reason": "a pause"})
            assert queue.status_code == httpx.codes.OK, queue.text

            async def audited() -> dict[str, bool]:
                answer = await http.get("/v1/api/audit", params={"qname": "e2e"})
                return {one["action"]: one["proven"] for one in answer.json().get("data", ())}

            assert await until(audited, lambda found: len(found) > 1) == {"submitted": True, "paused": True}
            await until(  # the list may lag
                lambda: http.get("/v1/api/job"),
                lambda answer: [job["status"] for job in answer.json()["data"]] == ["success"],
            )
            pages = [page async for page in Stream(operator, EVENTS).pages(event_filter())]
    stored = [message for page in pages for message in page]
    assert len(stored) == 5  # submitted, started, launched, ended, paused
    for message in stored:
        address, event = event_address(subject_of(message)), msgspec.json.decode(message.data)
        wanted = {
            "ce-specversion": "1.0",
            "ce-id": event["event_id"],
            "ce-source": f"/stint/queues/{address.token}",
            "ce-type": event["type"],
            "ce-subject": address.job_id,
            "ce-time": event["at"],
            "ce-datacontenttype": "application/json",
        }
        assert attributes(message.headers) == (wanted if setting == "on" else {}), address
        if address.kind == "ended":
            assert live == attributes(message.headers)
