"""Work queues: what consumers do, and what becomes of deliveries whose consumer is gone."""

import asyncio
import shutil
from typing import Any

import pytest
from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError, ConsumerGoneError, LeaseLostError
from stint.core.names.ids import queue_token
from stint.core.names.streams import WORK, consumer_name
from stint.jetstream import Broker, JetStreamEventLog, JetStreamWorkQueues, declare
from stint.jetstream.consuming.consumers import make_consumer
from stint.jetstream.wire.protocol import error_code
from stint.ports import Hint, Turn
from stint.process.background import cancel
from tests.support.brokers import connected, delivered, work_queues
from tests.support.events import TOKEN, submitted
from tests.support.servers import NatsProcess
from tests.support.waiting import PATIENCE, until

JOB = "0123456789abcdef01234567"
CONSUMER = consumer_name(TOKEN)


def job_id(number: int) -> str:
    return f"{number:024x}"


@pytest.fixture
async def queues(broker: Broker) -> JetStreamWorkQueues:
    return await work_queues(broker)


async def test_a_queue_hands_out_one_at_a_time_in_order(broker: Broker, queues: JetStreamWorkQueues) -> None:
    log = JetStreamEventLog(broker)
    for number in range(3):
        await log.append(TOKEN, job_id(number), submitted())
    seen = []
    for _ in range(3):
        delivery = await delivered(queues)
        assert await queues.pull(TOKEN, 0.05) is None, "busy"
        await delivery.renew()
        await delivery.ack()
        seen.append(delivery.subject.split(".")[1])
    assert seen == [job_id(number) for number in range(3)]
    assert await queues.pull(TOKEN, 0.05) is None
    await until(queues.pending, lambda pending: not pending)


async def test_a_job_that_was_acknowledged_and_not_removed_holds_up_nobody(
    broker: Broker, queues: JetStreamWorkQueues
) -> None:
    """As after the loss of a server between the two. A new consumer delivers it again: it is acknowledged again."""
    log = JetStreamEventLog(broker)
    await log.append(TOKEN, job_id(0), submitted())
    first = await delivered(queues)
    await broker.request(first.ack_subject, Msg.Ack.Ack)
    await log.append(TOKEN, job_id(1), submitted())
    second = await delivered(queues)
    await second.ack()
    await until(queues.pending, lambda pending: pending == {TOKEN: 1})
    assert (await queues.look(TOKEN)).turn is Turn.EMPTY
    await broker.api(f"CONSUMER.DELETE.{WORK}.{CONSUMER}")
    again = await delivered(await work_queues(broker))
    assert again.sequence == first.sequence
    await again.ack()
    await until(queues.pending, lambda pending: not pending)


async def test_what_is_given_back_comes_again(broker: Broker, queues: JetStreamWorkQueues) -> None:
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    first = await delivered(queues)
    await first.give_back()
    assert (await delivered(queues)).sequence == first.sequence


async def test_an_abandoned_pull_does_not_block_its_queue(broker: Broker, queues: JetStreamWorkQueues) -> None:
    pull = asyncio.create_task(queues.pull(TOKEN, PATIENCE))
    await until(
        lambda: broker.api(f"CONSUMER.INFO.{WORK}.{consumer_name(TOKEN)}"), lambda info: info.get("num_waiting")
    )
    await cancel(pull)
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    assert f".{JOB}." in (await delivered(queues)).subject


async def test_a_late_delivery_is_not_given_back(broker: Broker, queues: JetStreamWorkQueues) -> None:
    """It may be another runner's by now, and the server would take the NAK all the same."""
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    delivery = await delivered(queues)
    message = Msg(broker.client, subject=delivery.subject, reply=delivery.ack_subject)
    queues._pulled_at[consumer_name(TOKEN)] -= 16  # noqa: SLF001 - half a lease ago and more
    await queues._on_message(message)  # noqa: SLF001 - as the client would
    await broker.client.flush()
    assert await queues.pull(TOKEN, 0.3) is None, "still with its holder"
    queues._pulled_at[consumer_name(TOKEN)] += 16  # noqa: SLF001 - just now
    await queues._on_message(message)  # noqa: SLF001 - as the client would
    assert await queues.pull(TOKEN, PATIENCE) is not None


async def test_hints_name_the_queue_and_reach_one_of_those_who_listen(
    broker: Broker, queues: JetStreamWorkQueues
) -> None:
    async with queues.hints() as hints, queues.hints() as others:
        heard = [asyncio.ensure_future(anext(hints)), asyncio.ensure_future(anext(others))]
        await broker.client.flush()
        await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
        done, waiting = await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert [task.result() for task in done] == [Hint(TOKEN)]
        await broker.client.flush()
        assert [task.done() for task in waiting] == [False]
        await cancel(*waiting)


async def test_hints_say_who_passed_them_on_and_why(broker: Broker, queues: JetStreamWorkQueues) -> None:
    other = await work_queues(broker)
    async with queues.hints() as hints:
        await queues.hint("me")
        await queues.hint("me", passed=1, returned=True)
        await other.hint("me", passed=2)
        found = [await anext(hints) for _ in range(3)]
    assert found == [Hint("me", ours=True), Hint("me", passed=1, returned=True, ours=True), Hint("me", passed=2)]


async def test_a_look_says_what_a_pull_would_bring(broker: Broker, queues: JetStreamWorkQueues) -> None:
    queues = await work_queues(broker, lease=3)
    assert (await queues.look(TOKEN)).turn is Turn.FREE, "never pulled"
    assert await queues.pull(TOKEN, 0.02) is None
    assert (await queues.look(TOKEN)).turn is Turn.EMPTY
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    look = await until(lambda: queues.look(TOKEN), lambda found: found.turn is Turn.FREE)
    delivery = await queues.pull(TOKEN, PATIENCE, look)
    assert delivery is not None
    for _ in range(8):  # for longer than the lease, and each time long before its end
        assert (await queues.look(TOKEN)).turn is Turn.HELD
        assert await queues.pull(TOKEN, 0.4) is None
        await delivery.renew()
    await until(lambda: queues.look(TOKEN), lambda found: found.turn is Turn.FREE)  # the lease is over
    again = await queues.pull(TOKEN, PATIENCE, await queues.look(TOKEN))
    assert again is not None
    assert (again.count, again.origin) == (2, delivery.origin)
    await again.ack()
    assert (await queues.look(TOKEN)).turn is Turn.EMPTY


async def test_an_ack_says_whether_the_queue_has_more(broker: Broker, queues: JetStreamWorkQueues) -> None:
    for number in range(2):
        await JetStreamEventLog(broker).append(TOKEN, job_id(number), submitted())
    first = await delivered(queues)
    await until(lambda: broker.api(f"CONSUMER.INFO.{WORK}.{CONSUMER}"), lambda info: info["num_pending"] == 1)
    await first.ack()
    assert first.left is not None
    second = await queues.pull(TOKEN, PATIENCE, first.left)
    assert second is not None
    assert job_id(1) in second.subject
    await second.ack()
    assert second.left is None


async def test_a_look_that_is_out_of_date_does_no_harm(broker: Broker, queues: JetStreamWorkQueues) -> None:
    """The queue's consumer was deleted and made again since, and has delivered before."""
    log = JetStreamEventLog(broker)
    await log.append(TOKEN, JOB, submitted())
    await (await delivered(queues)).ack()
    await log.append(TOKEN, job_id(1), submitted())
    old = await until(lambda: queues.look(TOKEN), lambda found: found.turn is Turn.FREE)
    await delete_consumer(broker)
    delivery = await queues.pull(TOKEN, PATIENCE, old)
    assert delivery is not None
    await delivery.ack()


async def test_a_job_that_is_given_back_is_hinted_at(broker: Broker, queues: JetStreamWorkQueues) -> None:
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    delivery = await delivered(queues)
    async with queues.hints() as hints:
        await broker.client.flush()
        await delivery.give_back()
        assert await anext(hints) == Hint(TOKEN, returned=True)
    assert (await queues.look(TOKEN)).turn is Turn.HELD, "the server does not say that it was given back"
    assert (await delivered(queues)).count == 2


@pytest.mark.soak
async def test_more_than_a_thousand_queues(broker: Broker, queues: JetStreamWorkQueues) -> None:
    log = JetStreamEventLog(broker)
    tokens = [queue_token(f"queue {number}") for number in range(1100)]
    for number, token in enumerate(tokens):
        await log.append(token, job_id(number), submitted())
    await until(queues.pending, lambda found: len(found) == 1100)
    for token in tokens:
        delivery = await queues.pull(token, PATIENCE)
        assert delivery is not None
        assert delivery.lease == 30


# --- consumers that come and go -----------------------------------------------------------------------------------


async def delete_consumer(broker: Broker) -> None:
    assert (await broker.api(f"CONSUMER.DELETE.{WORK}.{CONSUMER}"))["success"]


async def test_an_existing_consumer_keeps_its_lease(broker: Broker, queues: JetStreamWorkQueues) -> None:
    assert await queues.pull(TOKEN, 0.05) is None
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    delivery = await delivered(await work_queues(broker, lease=2))
    assert delivery.lease == 30, "a shorter lease would cut those that are being held"


async def test_a_lease_is_that_of_the_delivery_whatever_the_consumer_gave_before(
    broker: Broker, queues: JetStreamWorkQueues
) -> None:
    """The consumer was forgotten, and made again by a runner with a shorter lease."""
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    first = await delivered(queues)
    await first.give_back()
    await delete_consumer(broker)
    shorter = await work_queues(broker, lease=2)
    await (await delivered(shorter)).give_back()
    assert (await delivered(queues)).lease == 2


async def test_nothing_is_kept_of_queues_that_came_and_went(broker: Broker) -> None:
    queues = await work_queues(broker, lease=0.2)
    for number in range(20):
        await queues.pull(queue_token(f"gone {number}"), 0.02)
    assert len(queues._pulled_at) < 20  # noqa: SLF001 - what grows is inside


async def test_a_delivery_that_cannot_be_looked_at_is_given_back(
    broker: Broker, queues: JetStreamWorkQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, failures = broker.api, [BrokerUnavailableError()]

    async def failing(subject: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if subject.startswith("CONSUMER.INFO") and failures:
            raise failures.pop()
        return await api(subject, *arguments, **options)

    assert await queues.pull(TOKEN, 0.02) is None
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    await until(queues.pending)  # WORK takes it from EVENTS a moment later
    monkeypatch.setattr(broker, "api", failing)
    with pytest.raises(BrokerUnavailableError):
        await queues.pull(TOKEN, PATIENCE)
    assert (await delivered(queues)).count == 2, "at once, not a lease later"


async def test_a_delivery_without_a_consumer_says_so_and_is_the_next_of_a_new_one(
    broker: Broker, queues: JetStreamWorkQueues
) -> None:
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    first = await delivered(queues)
    await delete_consumer(broker)
    with pytest.raises(ConsumerGoneError):
        await first.renew()
    again = await delivered(queues)
    assert (again.subject, again.count) == (first.subject, 1)
    assert again.origin != first.origin
    with pytest.raises(LeaseLostError):
        await first.ack()
    await again.ack()
    assert await queues.pull(TOKEN, 0.05) is None


@pytest.mark.soak
async def test_renewals_keep_a_job_that_another_received_from_a_new_consumer_and_gave_back(broker: Broker) -> None:
    queues, other = await work_queues(broker, lease=3), await work_queues(broker, lease=3)
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    holder = await delivered(queues)
    await delete_consumer(broker)
    theirs = await delivered(other)
    assert theirs.count == 1
    await theirs.give_back(3)
    for _ in range(8):
        await holder.renew()
        assert await other.pull(TOKEN, 0.5) is None, "the holder lives"
    again = await delivered(other)
    assert again.count == 2, "it does not"


async def test_a_consumer_that_lost_its_directory_serves_on(
    nats_process: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a race between its deletion and its making leaves on one server."""
    async with connected(nats_process.url) as broker:
        await declare(broker)
        queues = await work_queues(broker)
        assert await queues.pull(TOKEN, 0.05) is None
        (folder,) = nats_process.data_dir.glob(f"**/obs/{CONSUMER}")
        shutil.rmtree(folder)
        api, refusals = broker.api, []

        async def noting(subject: str, *arguments: Any, **options: Any) -> dict[str, Any]:
            answer = await api(subject, *arguments, **options)
            if subject.startswith("CONSUMER.CREATE"):
                refusals.append(error_code(answer))
            return answer

        monkeypatch.setattr(broker, "api", noting)
        await make_consumer(broker, TOKEN, 30)
        assert refusals == [10012]
        await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
        await (await delivered(await work_queues(broker))).ack()
