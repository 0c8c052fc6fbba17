"""Streams that have as many bytes as an operator lets them have: NATS refuses as it does what is stored already."""

import secrets
from contextlib import nullcontext
from typing import Any

import pytest

from stint.core.audit.operations import Paused
from stint.core.errors import BrokerUnavailableError
from stint.core.events import Submitted
from stint.core.names.streams import EVENTS, KEPT
from stint.core.names.subjects import EventAddress
from stint.jetstream import Broker, EventSigner, JetStreamKept, JetStreamOperations
from stint.jetstream.wire.protocol import NoAnswerError
from stint.publisher import PublishedJob
from stint.publisher.publisher import _store
from tests.support.events import AT, TOKEN

JOB = "a" * 24


async def test_an_operation_that_is_not_stored_is_not_taken_for_a_repeated_one(broker: Broker) -> None:
    operations, pause, name = JetStreamOperations(broker), Paused(event_id="p", at=AT), secrets.token_hex(12)
    await operations.record(pause, name, TOKEN)
    await fill(broker, EVENTS)
    await operations.record(pause, name, TOKEN)
    with pytest.raises(BrokerUnavailableError, match="maximum bytes"):
        await operations.record(pause, secrets.token_hex(12), TOKEN)


async def test_a_payload_is_not_kept_in_a_stream_that_is_full(broker: Broker) -> None:
    kept = JetStreamKept(broker)
    await kept.keep(TOKEN, JOB, "0" * 64, b"sealed", seconds=60)
    await fill(broker, KEPT)
    await kept.keep(TOKEN, JOB, "0" * 64, b"sealed", seconds=60)
    with pytest.raises(BrokerUnavailableError, match="maximum bytes"):
        await kept.keep(TOKEN, JOB, "1" * 64, b"sealed", seconds=60)


async def test_a_publishers_kill_that_is_not_stored_is_no_repeated_one(broker: Broker) -> None:
    first, second = (PublishedJob(broker, EventSigner(), "deploys", letter * 24) for letter in "ab")
    await first.kill()
    await fill(broker, EVENTS)
    await first.kill()
    with pytest.raises(BrokerUnavailableError, match="maximum bytes"):
        await second.kill()


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


async def fill(broker: Broker, stream: str) -> None:
    """Leave the stream no room for one more message."""
    found = await broker.api(f"STREAM.INFO.{stream}")
    limited = {**found["config"], "max_bytes": found["state"]["bytes"] + 1}
    assert "error" not in await broker.api(f"STREAM.UPDATE.{stream}", limited)
