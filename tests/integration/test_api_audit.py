"""Who did what, asked of the API on real servers: what is said, to whom, and what of it is proven."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from stint.core.audit.operations import DrainRequested
from stint.core.codec import encode
from stint.core.errors import BrokerUnavailableError
from stint.core.names.ids import new_job_id, queue_token
from stint.core.names.streams import RUNNERS_BUCKET
from stint.core.names.subjects import event_filter, kv_subject
from stint.jetstream import JetStreamHistory, JetStreamOperations, ServerClock
from stint.jetstream.streams.stream import Stream
from stint.ports import Outcome
from stint.process.environment import load
from stint.process.settings import ProjectorSettings
from stint_api.audit import trail
from stint_projector.__main__ import build as build_projector
from stint_projector.janitor import EventJanitor
from tests.support import events
from tests.support.answers import json_of
from tests.support.api_bench import Bench, api, service_environ
from tests.support.servers import NatsProcess, OpenBao
from tests.support.submissions import submitted
from tests.support.waiting import until

KEYS = {
    "at", "who", "entity", "accessor", "nats_user", "action", "qname", "job", "runner", "reason", "from", "answer",
    "status", "proven", "claimed",
}  # fmt: skip


async def answered(http: httpx.AsyncClient, of: str = "audit", /, **params: object) -> dict[str, Any]:
    return json_of(await asked(http, of, **params))


async def asked(http: httpx.AsyncClient, of: str = "audit", /, **params: object) -> httpx.Response:
    return await http.get(f"/v1/api/{of}", params={name: str(value) for name, value in params.items()})


async def of_jobs(http: httpx.AsyncClient, wanted: int, **params: object) -> Sequence[dict[str, Any]]:
    """The audit lags by design, and answers 503 until it has read the log once: wait until it has so many entries."""
    answer = await until(
        lambda: asked(http, **params), lambda answer: answer.is_success and len(answer.json()["data"]) == wanted
    )
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def some_queue() -> str:
    return f"q{secrets.token_hex(4)}"


async def test_it_shows_queues_that_the_caller_may_read_and_what_the_log_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = some_queue(), some_queue()
    job_id = await bench.submitted(qname=mine)
    theirs = [await bench.submitted(qname=other) for _ in range(3)]
    # A publisher of `mine` names a job of `other`: its status is not theirs to see.
    assert await bench.parts.log.append(queue_token(mine), theirs[0], events.kill_requested()) is Outcome.WON
    await of_jobs(bench.http, 2, qname=mine)
    token = await bench.token_with(f'path "stint/queue/{mine}" {{ capabilities = ["read"] }}')
    monkeypatch.setattr(trail, "BATCH", 1)
    monkeypatch.setattr(trail, "LOOKED_AT", 4)
    async with bench.client({"X-Auth-Token": token}) as http:
        body = await answered(http)
        assert [(one["job"], one["status"], one["answer"]) for one in body["data"]] == [(theirs[0], "", "ignored")]
        answer = await http.get("/v1/api/audit")
        rest = await http.get(answer.url.join(answer.links["next"]["url"]))
        assert [one["job"] for one in rest.json()["data"]] == [job_id], "a page may be short, and another follow"
        refused = await http.get("/v1/api/audit", params={"qname": other})
        assert (refused.status_code, f'"read" on "stint/queue/{other}"' in refused.json()["error"]) == (403, True)
    async with bench.client() as stranger:
        assert (await stranger.get("/v1/api/audit")).status_code == 400
    await Stream(bench.broker, "EVENTS").purge(event_filter("*", "*", job_id))
    left = (await answered(bench.http, qname=mine))["data"]
    assert [one["job"] for one in left] == [theirs[0]], "though the index still has the other"


async def operated(bench: Bench, queue: str, runner: str) -> None:
    """Pause a queue, resume it, and ask a runner to drain."""
    await bench.broker.publish(kv_subject(RUNNERS_BUCKET, runner), b"{}")
    await until(lambda: bench.http.get("/v1/api/runner"), lambda answer: runner in answer.text)
    for path, body in (
        (f"queue/{queue}/pause", {"reason": "The database is being moved."}),
        (f"queue/{queue}/resume", {}),
        (f"runner/{runner}/drain", {}),
    ):
        answer = await bench.http.post(f"/v1/api/{path}", json=body)
        assert answer.is_success, answer.text


async def test_a_pause_is_shown_to_who_may_read_the_queue_and_a_drain_to_who_may_drain(bench: Bench) -> None:
    mine, other = some_queue(), some_queue()
    my_runner, other_runner = f"runner-{mine}", f"runner-{other}"
    await operated(bench, mine, my_runner)
    await operated(bench, other, other_runner)
    await of_jobs(bench.http, 2, qname=other)
    rules = {"reads": f'path "stint/queue/{mine}" {{ capabilities = ["read"] }}'}
    rules["drains"] = f'path "stint/drain/{my_runner}" {{ capabilities = ["update"] }}'
    shown: dict[str, set[tuple[str, str]]] = {}
    for name, rule in rules.items():
        async with bench.client({"X-Auth-Token": await bench.token_with(rule)}) as http:
            shown[name] = {(one["action"], one["qname"] or one["runner"]) for one in (await answered(http))["data"]}
    assert shown == {"reads": {("paused", mine), ("resumed", mine)}, "drains": {("drain_requested", my_runner)}}


@pytest.mark.parametrize("runner", ["", "x" * 60_000, "a b", "a\n"])
async def test_a_drain_of_what_no_runner_is_called_leaves_the_audit_readable(bench: Bench, runner: str) -> None:
    """Only the API may write it, where accounts of NATS hold; Vault was asked about each of these names."""
    drain = DrainRequested(event_id="d", at="", by="ops", runner=runner)
    await JetStreamOperations(bench.broker).record(drain, new_job_id(0, secrets.token_bytes(6)))
    queue = some_queue()
    job = await bench.submitted(qname=queue)
    await of_jobs(bench.http, 1, qname=queue)
    found = (await answered(bench.http))["data"]
    assert found[0]["job"] == job
    assert runner not in {one["runner"] for one in found if one["action"] == "drain_requested"}


async def test_nothing_is_done_that_is_not_recorded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: object) -> None:
        raise BrokerUnavailableError

    queue = some_queue()
    monkeypatch.setattr(JetStreamOperations, "record", unavailable)
    assert (await bench.http.post(f"/v1/api/queue/{queue}/pause")).status_code == 503
    assert await bench.parts.pauses.find(queue_token(queue)) is None


async def test_operations_survive_a_restart_and_go_when_events_do(nats_process: NatsProcess, openbao: OpenBao) -> None:
    queue, runner = some_queue(), f"runner-{some_queue()}"
    async with api(nats_process.url, openbao) as bench:
        await operated(bench, queue, runner)
        await nats_process.restart()
    async with api(nats_process.url, openbao) as bench:
        found = await of_jobs(bench.http, 3)
        assert [one["action"] for one in found] == ["drain_requested", "resumed", "paused"]
        assert {one["from"] for one in found} == {"127.0.0.1"}
        assert all(set(one) == KEYS for one in found)
        settings = load(ProjectorSettings, await service_environ(nats_process.url, openbao))
        keep = timedelta(days=1)
        projector = build_projector(settings, bench.broker, ServerClock(bench.broker))
        history = JetStreamHistory(bench.broker)
        await EventJanitor(projector, history, keep).forget()
        assert len((await answered(bench.http))["data"]) == 3, "they are not old yet"
        projector = replace(projector, now=lambda: datetime.now(UTC) + keep * 2)
        await EventJanitor(projector, history, keep).forget()
        assert (await answered(bench.http))["data"] == [], "also while the index still has them"


async def test_addresses_are_recorded_only_where_they_may_be(nats: NatsProcess, openbao: OpenBao) -> None:
    async with api(nats.url, openbao, STINT_AUDIT_ADDRESSES="false") as bench:
        queue = some_queue()
        job_id = await bench.submitted(qname=queue)
        (entry,) = await of_jobs(bench.http, 1, qname=queue)
        job = await bench.load(job_id)
        assert (entry["from"], entry["at"][:-1]) == ("", job.facts["submitted"].time[:23])
        assert b"127.0.0.1" not in encode(submitted(job))


async def launched_with(bench: Bench, queue: str, secrets_: dict[str, int | None]) -> str:
    job_id = await bench.submitted(qname=queue)
    launched = msgspec.structs.replace(events.launched(), secrets=secrets_)
    for fact in (events.started(), launched):
        assert await bench.parts.log.append(queue_token(queue), job_id, fact) is Outcome.WON
    return job_id


async def test_the_jobs_that_got_a_secret_are_shown_to_who_may_read_their_queue(bench: Bench) -> None:
    mine, other = some_queue(), some_queue()
    path = f"kv/data/{some_queue()}"
    first = await launched_with(bench, mine, {f"{path}.password": 6})
    second = await launched_with(bench, mine, {f"{path}.password": 7, f"{path}.user": 7, "kv1/a.b": None})
    third = await launched_with(bench, other, {f"{path}.user": 8})
    of_a_stranger = msgspec.structs.replace(events.launched(), secrets={f"{path}.user": 1})
    assert await bench.parts.log.append(queue_token(mine), third, of_a_stranger) is Outcome.WON  # not the job's queue
    answer = await until(  # it lags by design, as the audit does
        lambda: asked(bench.http, "lineage", secret=path),
        lambda answer: answer.is_success and len(answer.json()["data"]) == 4,
    )
    assert answer.json()["newest"] == 8
    shown = [(one["job"], one["secret"], one["version"], one["outdated"]) for one in answer.json()["data"]]
    assert shown[:2] == [(third, f"{path}.user", 8, False), (second, f"{path}.user", 7, True)]
    unversioned = (await answered(bench.http, "lineage", secret="kv1/a.b"))["data"][0]
    assert (unversioned["version"], unversioned["outdated"]) == (None, False)
    token = await bench.token_with(f'path "stint/queue/{mine}" {{ capabilities = ["read"] }}')
    async with bench.client({"X-Auth-Token": token}) as http:
        seen = await answered(http, "lineage", secret=path)
        # Not even that there is a version 8.
        assert (seen["newest"], [each["job"] for each in seen["data"]]) == (7, [second, second, first])
        assert (await answered(http, "lineage", secret=path, version=8))["data"] == []
    async with bench.client() as stranger:
        assert (await asked(stranger, "lineage", secret=path)).status_code == 400
