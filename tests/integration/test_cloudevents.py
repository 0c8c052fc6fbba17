"""Events with the headers of CloudEvents, as the real server stores them."""

import secrets
from collections.abc import Mapping

import pytest

from stint.core.audit.operations import AnyOperation, Paused
from stint.core.cloudevents import cloudevents
from stint.core.events import AnyEvent
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import EventAddress, event_address, event_filter
from stint.core.schema import asyncapi
from stint.jetstream import Broker, JetStreamEventLog, JetStreamOperations
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.protocol import subject_of
from stint.ports import Outcome
from tests.support.brokers import loaded
from tests.support.events import TOKEN, deleted, ended, started, submitted


async def headers(broker: Broker, job_id: str) -> Mapping[EventAddress, Mapping[str, str]]:
    """Those of each event of a job that are about CloudEvents."""
    pages = [page async for page in Stream(broker, EVENTS).pages(event_filter("*", "*", job_id))]
    return {
        event_address(subject_of(message)): {
            name: text for name, text in (message.headers or {}).items() if name.startswith("ce-")
        }
        for page in pages
        for message in page
    }


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
async def test_each_event_has_them_only_with_the_setting(broker: Broker, on: bool) -> None:
    log, job_id = JetStreamEventLog(broker, as_cloudevents=on), secrets.token_hex(12)
    single: list[AnyEvent] = [submitted(), started()]
    batch: list[AnyEvent] = [ended("success"), deleted()]
    for event in single:
        assert await log.append(TOKEN, job_id, event) is Outcome.WON
    job = await loaded(log, job_id)
    assert await log.append(TOKEN, job_id, *batch, after=job.sequence) is Outcome.WON
    pause = Paused(event_id="p", at="2026-01-02T03:04:05Z")
    await JetStreamOperations(broker, as_cloudevents=on).record(pause, operation := secrets.token_hex(12), TOKEN)
    appended: list[tuple[str, AnyEvent | AnyOperation]] = [*((job_id, event) for event in [*single, *batch])]
    written = {EventAddress(event.kind, TOKEN, name): event for name, event in [*appended, (operation, pause)]}
    found = {**await headers(broker, job_id), **await headers(broker, operation)}
    assert found == {address: cloudevents(address, event) if on else {} for address, event in written.items()}
    read = await loaded(log, job_id)
    assert {kind: read.facts[kind].event for kind in read.facts} == {event.kind: event for _, event in appended}


def test_the_contract_names_them() -> None:
    address = EventAddress("started", TOKEN, "a" * 24)
    components = asyncapi("0")["components"]
    assert components["messages"]["started"]["traits"] == [{"$ref": "#/components/messageTraits/cloudevent"}]
    described = components["messageTraits"]["cloudevent"]["headers"]["properties"]
    assert cloudevents(address, started()).keys() == described.keys()
    assert cloudevents(address, started())["ce-source"] == f"/stint/queues/{TOKEN}"
