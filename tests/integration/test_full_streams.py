"""Streams that have as many bytes as an operator lets them have: NATS refuses as it does what is stored already."""

import secrets
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stint.core.audit.operations import Paused
from stint.core.errors import BrokerUnavailableError
from stint.core.events import Submitted
from stint.core.names.streams import EVENTS, KEPT, WORK
from stint.core.names.subjects import EventAddress
from stint.jetstream import (
    Broker,
    EventSigner,
    JetStreamHistory,
    JetStreamKept,
    JetStreamOperations,
    JetStreamOutput,
    ServerClock,
)
from stint.jetstream.wire.protocol import NoAnswerError
from stint.process.settings import ProjectorSettings
from stint.publisher import PublishedJob
from stint.publisher.publisher import _store
from stint_projector.__main__ import build
from stint_projector.auditor import Auditor
from stint_projector.janitor import CONCURRENCY, EventJanitor, Janitor
from tests.support import full_nats
from tests.support.brokers import connected, happen
from tests.support.events import AT, TOKEN, ended, submitted
from tests.support.outputs import Writer, places_of
from tests.support.servers import NatsProcess, running
from tests.support.views import all_views
from tests.support.waiting import until

JOB = "a" * 24


async def test_what_is_not_stored_is_not_taken_for_a_repeated_operation_kill_or_payload(broker: Broker) -> None:
    operations, pause, name = JetStreamOperations(broker), Paused(event_id="p", at=AT), secrets.token_hex(12)
    first, second = (PublishedJob(broker, EventSigner(), "deploys", letter * 24) for letter in "ab")
    keep = partial(JetStreamKept(broker).keep, TOKEN, JOB, sealed=b"sealed", seconds=60)
    for full in (False, True):
        await operations.record(pause, name, TOKEN)
        await first.kill()
        await keep("0" * 64)
        if not full:
            await fill(broker, EVENTS)
            await fill(broker, KEPT)
    for another in (operations.record(pause, secrets.token_hex(12), TOKEN), second.kill(), keep("1" * 64)):
        with pytest.raises(BrokerUnavailableError, match="maximum bytes"):
            await another


async def test_a_submission_that_nobody_answered_and_that_has_no_room_is_not_taken_for_stored(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, unanswered = broker.publish, iter([True])

    async def lossy(*message: Any) -> dict[str, Any]:
        if next(unanswered, False):
            raise NoAnswerError
        return await publish(*message)

    monkeypatch.setattr(broker, "publish", lossy)
    stored, other = (EventAddress(Submitted.kind, TOKEN, letter * 24).subject for letter in "ab")
    await _store(broker, stored, b"{}")
    await fill(broker, EVENTS)
    for subject in (stored, other):
        unanswered = iter([True])
        with nullcontext() if subject == stored else pytest.raises(BrokerUnavailableError, match="maximum bytes"):
            await _store(broker, subject, b"{}")


async def test_a_full_nats_has_room_again_once_jobs_are_no_longer_kept(tmp_path: Path) -> None:
    """The removal of a view needs room; that of the output makes it, though the jobs before have none."""
    jobs = [f"{number:024x}" for number in range(3 * CONCURRENCY)]
    nats = NatsProcess(tmp_path / "nats", settings=full_nats.SMALL)
    async with running(nats), connected(nats.url) as broker:
        projector, output = build(ProjectorSettings(), broker, ServerClock(broker)), JetStreamOutput(broker)
        shorter = replace(projector, retention=timedelta(0))
        history = JetStreamHistory(broker)
        janitor = Janitor(shorter, history)  # what had become due before it began is the auditor's
        await Writer(output, TOKEN, jobs[-1]).write(b"line\n")
        for job in jobs:
            await happen(broker, job, submitted(), ended("failed"))
            await projector.project(job)
        await until(lambda: history.is_waiting(jobs[-1]))  # a copy that came later would take the room
        await full_nats.fill(broker)
        await janitor.expire()
        await Auditor(shorter, history, lambda _place: None).sweep()
        assert not await places_of(output)
        assert not await all_views(broker)


async def test_a_full_nats_has_room_again_once_events_are_no_longer_kept(tmp_path: Path) -> None:
    nats = NatsProcess(tmp_path / "nats", settings=full_nats.SMALL)
    async with running(nats), connected(nats.url) as broker:
        projector, history = build(ProjectorSettings(), broker, ServerClock(broker)), JetStreamHistory(broker)
        shorter = replace(projector, retention=timedelta(0))
        await happen(broker, JOB, submitted(), ended("failed"))
        await until(lambda: history.is_waiting(JOB))
        await broker.api(f"STREAM.PURGE.{WORK}")  # as a runner that has seen its end removes it
        await projector.project(JOB)
        await full_nats.fill(broker)
        await EventJanitor(shorter, history, timedelta(0)).forget()
        assert await projector.log.load(JOB) is None
        await Auditor(shorter, history, lambda _place: None).sweep()
        assert not await all_views(broker)


async def fill(broker: Broker, stream: str) -> None:
    """Leave the stream no room for one more message."""
    found = await broker.api(f"STREAM.INFO.{stream}")
    limited = {**found["config"], "max_bytes": found["state"]["bytes"] + 1}
    assert "error" not in await broker.api(f"STREAM.UPDATE.{stream}", limited)
