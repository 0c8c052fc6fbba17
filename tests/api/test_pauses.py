"""Pausing a queue and resuming it, as operators see it."""

from datetime import datetime

from tests.api.client import Api, Json, new_queue
from tests.support.answers import json_of
from tests.support.waiting import until

QUEUE = "/v1/api/queue"


async def command(api: Api, qname: str, word: str, **body: str) -> Json:
    return json_of(await api.http.post(f"{QUEUE}/{qname}/{word}", json=body))


async def listed(api: Api, qname: str) -> Json:
    answer = await api.http.get(QUEUE)
    assert answer.status_code == 200, answer.text
    found: Json = next((queue for queue in answer.json()["data"] if queue["qname"] == qname), {})
    return found


async def test_a_paused_queue_starts_nothing_keeps_its_order_and_says_why(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname) as running:
        paused = await command(api, qname, "pause", reason="The database is being moved.")
        assert paused["paused"]["reason"] == "The database is being moved."
        ids = [await api.submit("echo here", qname=qname) for _ in range(4)]
        assert await api.status(running) == "running"
    shown = await until(
        lambda: api.http.get(f"{QUEUE}/{qname}"), lambda now: now.json()["waiting"] == ids and not now.json()["running"]
    )
    assert shown.json()["depth"] == 4
    assert (await listed(api, qname))["paused"] == paused["paused"]
    killed, deleted, *others = ids
    await api.kill(killed)
    assert (await api.ended(killed))["reason"] == "killed"
    assert (await api.delete(deleted)).status_code == 200
    await until(lambda: api.http.get(f"{QUEUE}/{qname}"), lambda now: now.json()["waiting"] == others)
    jobs = [await api.get(job_id) for job_id in others]
    assert [(job["status"], job["position"], job["waits_for"]) for job in jobs] == [
        ("queued", 1, "paused"),
        ("queued", 2, "paused"),
    ]
    assert (await command(api, qname, "resume"))["paused"] is None
    ended = [await api.ended(job_id) for job_id in others]
    assert [job["status"] for job in ended] == ["success", "success"]
    assert datetime.fromisoformat(ended[0]["ended"]) <= datetime.fromisoformat(ended[1]["started"])
    figures = await until(lambda: listed(api, qname), lambda queue: queue.get("depth") == 0 and not queue["running"])
    assert (figures["ended_last_hour"], figures["failed_last_hour"], figures["served"]) == (4, 2, True)


async def test_a_job_that_waits_for_its_turn_says_so(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname):
        first, second = await api.submit(qname=qname), await api.submit(qname=qname)
        await api.appears(second, qname=qname)
        for job_id, position in ((first, 1), (second, 2)):
            await until(
                lambda job_id=job_id: api.get(job_id),  # type: ignore[misc] # its default
                lambda job, position=position: (job["waits_for"], job["position"]) == ("turn", position),  # type: ignore[misc] # likewise
            )
    ended = await api.ended(second)
    assert (ended["position"], ended["waits_for"]) == (0, "")
