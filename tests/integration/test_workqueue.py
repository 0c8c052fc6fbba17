"""Work queues: what consumers do, and what becomes of deliveries whose consumer is gone."""

import asyncio
from typing import Any

import pytest
from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError, ConsumerGoneError, LeaseLostError
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, WORK, consumer_name
from stint.jetstream import Broker, JetStreamEventLog, JetStreamWorkQueues
from stint.jetstream.consuming.consumers import create_consumer, lengthen_lease
from stint.ports import Hint, Turn
from stint.process.background import cancel
from tests.support.brokers import connected, declare_anew, delivered, work_queues
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
    assert (again.count, again.after_expiry, again.origin) == (2, True, delivery.origin)
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
        await first.give_back()
    await again.ack()
    assert await queues.pull(TOKEN, 0.05) is None


async def test_a_holder_acknowledges_its_job_although_a_new_consumer_has_given_it_to_another(broker: Broker) -> None:
    """The other gave it back for a lease, which the queue's next job does not wait for."""
    queues, other = await work_queues(broker), await work_queues(broker)
    for number in range(2):
        await JetStreamEventLog(broker).append(TOKEN, job_id(number), submitted())
    holder = await delivered(queues)
    await delete_consumer(broker)
    theirs = await delivered(other)
    await theirs.give_back(30)
    await holder.ack()
    await theirs.give_back()  # what was acknowledged does not come again
    following = await delivered(other)
    assert job_id(1) in following.subject
    with pytest.raises(LeaseLostError):
        await holder.ack()
    await following.ack()
    await until(queues.pending, lambda pending: not pending)


async def test_an_ack_says_nothing_of_a_stream_that_was_made_anew(broker: Broker) -> None:
    """Its messages have the same numbers, and are other jobs."""
    queues = await work_queues(broker)
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    first = await delivered(queues)
    for stream in (WORK, EVENTS):
        await broker.api(f"STREAM.DELETE.{stream}")
    await declare_anew(broker)
    await JetStreamEventLog(broker).append(TOKEN, job_id(1), submitted())
    later = await delivered(queues)
    assert later.sequence == first.sequence
    with pytest.raises(LeaseLostError):
        await first.ack()
    assert await queues.reclaim(TOKEN, first.ack_subject, first.origin) is None
    assert await queues.pull(TOKEN, 0.05) is None, "still held"
    await later.ack()


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


# --- reclaimed by a later process -----------------------------------------------------------------------------------


async def test_a_delivery_is_reclaimed(broker: Broker, queues: JetStreamWorkQueues) -> None:
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    held = await delivered(queues)
    later = await work_queues(broker)
    reclaimed = await later.reclaim(TOKEN, held.ack_subject, held.origin)
    assert reclaimed is not None
    assert (reclaimed.subject, reclaimed.sequence, reclaimed.lease) == ("", held.sequence, held.lease)
    await reclaimed.ack()
    assert await later.reclaim(TOKEN, held.ack_subject, held.origin) is None, "acknowledged"
    for nonsense in ("", "nobody", f"$JS.ACK.WORK.{consumer_name('other')}.1.1.1.1.0"):
        assert await later.reclaim(TOKEN, nonsense, held.origin) is None


async def test_a_delivery_whose_consumer_is_gone_is_reclaimed_from_a_new_one(
    broker: Broker, queues: JetStreamWorkQueues
) -> None:
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    held = await delivered(queues)
    await delete_consumer(broker)
    reclaimed = await (await work_queues(broker)).reclaim(TOKEN, held.ack_subject, held.origin)
    assert reclaimed is not None
    assert (reclaimed.subject, reclaimed.count) == (held.subject, 1)
    assert reclaimed.origin != held.origin
    await reclaimed.ack()


async def test_a_job_of_which_another_has_a_new_consumers_first_delivery_is_reclaimed(broker: Broker) -> None:
    """Whoever has it leaves it to its holder for a lease."""
    queues, other = await work_queues(broker), await work_queues(broker, lease=3)
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    held = await delivered(queues)
    await delete_consumer(broker)
    theirs = await delivered(other)
    await theirs.give_back(3)
    reclaimed = await queues.reclaim(TOKEN, held.ack_subject, held.origin)
    assert reclaimed is not None
    assert reclaimed.lease == 3, "the new consumer's"
    with pytest.raises(LeaseLostError):
        await reclaimed.give_back()
    await reclaimed.ack()
    await until(queues.pending, lambda pending: not pending)


async def test_a_job_that_a_new_consumer_has_delivered_twice_is_reclaimed(broker: Broker) -> None:
    """A nak made the second one. Whether its receiver may take the job over, the consumer's age tells it."""
    queues, other = await work_queues(broker), await work_queues(broker)
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    held = await delivered(queues)
    await delete_consumer(broker)
    await (await delivered(other)).give_back()
    theirs = await delivered(other)
    assert (theirs.count, theirs.after_expiry) == (2, False)
    reclaimed = await queues.reclaim(TOKEN, held.ack_subject, held.origin)
    assert reclaimed is not None
    await reclaimed.ack()


async def test_a_job_that_its_own_consumer_has_delivered_again_is_another_runners(broker: Broker) -> None:
    queues, other = await work_queues(broker), await work_queues(broker)
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    held = await delivered(queues)
    await held.give_back()
    theirs = await delivered(other)
    assert await queues.reclaim(TOKEN, held.ack_subject, held.origin) is None
    await theirs.ack()


@pytest.mark.parametrize("made", [True, False])
async def test_a_job_that_a_new_consumer_has_not_come_to_is_reclaimed(
    broker: Broker, queues: JetStreamWorkQueues, made: bool
) -> None:
    """Another runner was about to pull, or there is an earlier job that was acknowledged and not removed."""
    for number in range(2):
        await JetStreamEventLog(broker).append(TOKEN, job_id(number), submitted())
    earlier = await delivered(queues)
    await broker.request(earlier.ack_subject, Msg.Ack.Ack)
    held = await delivered(queues)
    await delete_consumer(broker)
    if made:
        await create_consumer(broker, TOKEN, 30)
    reclaimed = await queues.reclaim(TOKEN, held.ack_subject, held.origin)
    assert reclaimed is not None
    assert reclaimed.sequence == held.sequence
    await reclaimed.renew()
    again = await delivered(queues)
    assert (again.sequence, again.after_expiry) == (earlier.sequence, False)
    with pytest.raises(LeaseLostError):
        await reclaimed.ack()  # not yet its turn: whoever receives it finds that it is over
    await again.ack()
    await (await delivered(queues)).ack()


async def test_a_lease_is_lengthened_and_never_shortened(broker: Broker, queues: JetStreamWorkQueues) -> None:
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    first = await delivered(queues)
    await first.lengthen(40)
    await first.give_back()
    again = await delivered(queues)
    await again.lengthen(20)
    await lengthen_lease(broker, CONSUMER, 20)
    await again.give_back()
    again = await delivered(queues)
    assert (first.lease, again.lease, again.count) == (40, 40, 3)
    await again.renew()
    await delete_consumer(broker)
    await again.lengthen(50)
    assert (await delivered(queues)).lease == 30, "it is gone"


async def test_another_job_that_a_new_consumer_delivers_is_given_back(
    broker: Broker, queues: JetStreamWorkQueues
) -> None:
    """The job that was held is over, and its message is gone."""
    for number in range(2):
        await JetStreamEventLog(broker).append(TOKEN, job_id(number), submitted())
    held = await delivered(queues)
    await held.ack()
    await until(queues.pending, lambda pending: pending == {TOKEN: 1})
    await delete_consumer(broker)
    assert await queues.reclaim(TOKEN, held.ack_subject, held.origin) is None
    again = await delivered(queues)
    assert (job_id(1) in again.subject, again.count) == (True, 2)


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_consumer_is_in_memory_on_a_single_server(broker: Broker, replicas: int) -> None:
    queues = await work_queues(broker, replicas=replicas)
    assert await queues.pull(TOKEN, 0.02) is None
    config = (await broker.api(f"CONSUMER.INFO.{WORK}.{CONSUMER}"))["config"]
    assert config.get("mem_storage", False) is (replicas == 1)
    await JetStreamEventLog(broker).append(TOKEN, JOB, submitted())
    delivery = await delivered(queues)
    await delivery.lengthen(40)
    longer = (await broker.api(f"CONSUMER.INFO.{WORK}.{CONSUMER}"))["config"]
    assert longer == config | {"ack_wait": 40 * 10**9}, "and nothing else"


# --- servers ------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_restarted_has_forgotten_who_has_a_job_and_its_holder_goes_on(
    nats_process: NatsProcess,
) -> None:
    async with connected(nats_process.url) as broker, connected(nats_process.url) as another:
        queues, other = await work_queues(broker), await work_queues(another)
        for number in range(2):
            await JetStreamEventLog(broker).append(TOKEN, job_id(number), submitted())
        holder = await delivered(queues)
        await nats_process.restart()
        await another.wait_connected()
        theirs = await delivered(other)
        assert (theirs.subject, theirs.count) == (holder.subject, 1)
        await theirs.give_back(30)
        await broker.wait_connected()
        await holder.renew()
        await holder.ack()
        assert job_id(1) in (await delivered(other)).subject
