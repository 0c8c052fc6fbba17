"""Work queues: what consumers do, and what becomes of deliveries whose consumer is gone."""

import asyncio
from typing import Any

import pytest
from nats.aio.msg import Msg

from stint.core.errors import BrokerUnavailableError, ConsumerGoneError, LeaseLostError
from stint.core.names.ids import queue_token
from stint.core.names.streams import EVENTS, WORK, consumer_name
from stint.jetstream import Broker, JetStreamWorkQueues
from stint.jetstream.consuming.consumers import create_consumer
from stint.jetstream.consuming.delivery import JetStreamDelivery
from stint.ports import Delivery, Hint, Turn, WorkQueues
from stint.process.background import cancel
from tests.support.brokers import LEASE, declare_anew, delivered, happen, pulled, work_queues
from tests.support.events import TOKEN, submitted
from tests.support.waiting import PATIENCE, until

JOB, NEXT, LAST = (f"{number:024x}" for number in range(3))
CONSUMER = consumer_name(TOKEN)


@pytest.fixture
async def queues(broker: Broker) -> JetStreamWorkQueues:
    return await work_queues(broker)


@pytest.fixture
async def other(broker: Broker) -> JetStreamWorkQueues:
    """Another runner's."""
    return await work_queues(broker)


@pytest.fixture
async def held(broker: Broker, queues: WorkQueues) -> Delivery:
    """The delivery of the queue's only job."""
    await submit(broker, JOB)
    return await delivered(queues)


async def submit(broker: Broker, *job_ids: str) -> None:
    for job_id in job_ids:
        await happen(broker, job_id, submitted())


async def test_a_queue_hands_out_one_at_a_time_in_order(broker: Broker, queues: WorkQueues) -> None:
    await submit(broker, JOB, NEXT, LAST)
    seen = []
    for _ in range(3):
        delivery = await delivered(queues)
        assert await queues.pull(TOKEN, 0.05) is None, "busy"
        await delivery.renew()
        await delivery.ack()
        seen.append(delivery.subject.split(".")[1])
    assert seen == [JOB, NEXT, LAST]
    assert await queues.pull(TOKEN, 0.05) is None
    await until(queues.pending, lambda pending: not pending)


async def test_an_acknowledged_job_holds_up_nobody(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    """As after the loss of a server between the two. A new consumer delivers it again: it is acknowledged again."""
    await broker.request(held.ack_subject, Msg.Ack.Ack)
    await submit(broker, NEXT)
    await (await delivered(queues)).ack()
    await until(queues.pending, lambda pending: pending == {TOKEN: 1})
    assert (await queues.look(TOKEN)).turn is Turn.EMPTY
    await delete_consumer(broker)
    again = await delivered(await work_queues(broker))
    assert again.sequence == held.sequence
    await again.ack()
    await until(queues.pending, lambda pending: not pending)


async def test_an_abandoned_pull_does_not_block_its_queue(broker: Broker, queues: WorkQueues) -> None:
    pull = asyncio.create_task(queues.pull(TOKEN, PATIENCE))
    await until(lambda: broker.api(f"CONSUMER.INFO.{WORK}.{CONSUMER}"), lambda info: info.get("num_waiting"))
    await cancel(pull)
    await submit(broker, JOB)
    assert f".{JOB}." in (await delivered(queues)).subject


async def test_a_late_delivery_is_given_back_unless_it_may_be_anothers(
    broker: Broker, queues: JetStreamWorkQueues, held: Delivery
) -> None:
    """The server would take the NAK all the same."""
    message = Msg(broker.client, subject=held.subject, reply=held.ack_subject)
    queues._pulled_at[CONSUMER] -= LEASE  # noqa: SLF001 - more than half of it ago
    await queues._on_message(message)  # noqa: SLF001 - as the client would
    await broker.client.flush()
    assert await queues.pull(TOKEN, 0.3) is None, "still with its holder"
    queues._pulled_at[CONSUMER] += LEASE  # noqa: SLF001 - just now
    await queues._on_message(message)  # noqa: SLF001 - as the client would
    assert await queues.pull(TOKEN, PATIENCE) is not None


async def test_hints_name_the_queue_and_reach_one_listener(broker: Broker, queues: WorkQueues) -> None:
    async with queues.hints() as hints, queues.hints() as others:
        heard = [asyncio.ensure_future(anext(hints)), asyncio.ensure_future(anext(others))]
        await broker.client.flush()
        await submit(broker, JOB)
        done, waiting = await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert [task.result() for task in done] == [Hint(TOKEN)]
        await broker.client.flush()
        assert [task.done() for task in waiting] == [False]
        await cancel(*waiting)


async def test_hints_say_who_passed_them_on_and_why(queues: WorkQueues, other: WorkQueues) -> None:
    async with queues.hints() as hints:
        await queues.hint("me")
        await queues.hint("me", passed=1, returned=True)
        await other.hint("me", passed=2)
        found = [await anext(hints) for _ in range(3)]
    assert found == [Hint("me", ours=True), Hint("me", passed=1, returned=True, ours=True), Hint("me", passed=2)]


async def test_a_look_says_what_a_pull_would_bring(broker: Broker) -> None:
    queues = await work_queues(broker, lease=3)
    assert (await queues.look(TOKEN)).turn is Turn.FREE, "never pulled"
    assert await queues.pull(TOKEN, 0.02) is None
    assert (await queues.look(TOKEN)).turn is Turn.EMPTY
    await submit(broker, JOB)
    look = await until(lambda: queues.look(TOKEN), lambda found: found.turn is Turn.FREE)
    delivery = await pulled(queues, look)
    for _ in range(8):  # for longer than the lease, and each time long before its end
        assert (await queues.look(TOKEN)).turn is Turn.HELD
        assert await queues.pull(TOKEN, 0.4) is None
        await delivery.renew()
    await until(lambda: queues.look(TOKEN), lambda found: found.turn is Turn.FREE)  # the lease is over
    again = await pulled(queues, await queues.look(TOKEN))
    assert (again.count, again.after_expiry, again.origin) == (2, True, delivery.origin)
    await again.ack()
    assert (await queues.look(TOKEN)).turn is Turn.EMPTY
    await submit(broker, NEXT)
    assert not (await delivered(queues)).after_expiry, "the first delivery of this one"


async def test_an_ack_says_whether_the_queue_has_more(broker: Broker, queues: WorkQueues) -> None:
    await submit(broker, JOB, NEXT)
    first = await delivered(queues)
    await until(lambda: broker.api(f"CONSUMER.INFO.{WORK}.{CONSUMER}"), lambda info: info["num_pending"] == 1)
    await first.ack()
    assert first.left is not None
    second = await pulled(queues, first.left)
    assert NEXT in second.subject
    await second.ack()
    assert second.left is None


async def test_an_outdated_look_does_no_harm(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    """The queue's consumer was deleted and made again since, and has delivered before."""
    await held.ack()
    await submit(broker, NEXT)
    old = await until(lambda: queues.look(TOKEN), lambda found: found.turn is Turn.FREE)
    await delete_consumer(broker)
    await (await pulled(queues, old)).ack()


async def test_a_returned_job_is_hinted_at_and_comes_again(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    async with queues.hints() as hints:
        await broker.client.flush()
        await held.give_back()
        assert await anext(hints) == Hint(TOKEN, returned=True)
    assert (await queues.look(TOKEN)).turn is Turn.HELD, "the server does not say that it was given back"
    again = await delivered(queues)
    assert (again.sequence, again.count) == (held.sequence, 2)


@pytest.mark.soak
async def test_more_than_a_thousand_queues(broker: Broker, queues: WorkQueues) -> None:
    tokens = [queue_token(f"queue {number}") for number in range(1100)]
    for number, token in enumerate(tokens):
        await happen(broker, f"{number:024x}", submitted(), token=token)
    await until(queues.pending, lambda found: len(found) == 1100)
    for token in tokens:
        assert (await pulled(queues, token=token)).lease == LEASE


async def delete_consumer(broker: Broker) -> None:
    assert (await broker.api(f"CONSUMER.DELETE.{WORK}.{CONSUMER}"))["success"]


async def test_an_existing_consumer_keeps_its_lease(broker: Broker, queues: WorkQueues) -> None:
    shorter, outdated = await work_queues(broker, lease=2), await queues.look(TOKEN)
    assert await queues.pull(TOKEN, 0.05) is None
    assert await shorter.pull(TOKEN, 0.05, outdated) is None, "it found no consumer, and asks for one"
    await submit(broker, JOB)
    delivery = await delivered(shorter)
    assert delivery.lease == LEASE, "a shorter lease would cut those that are being held"


async def test_a_lease_is_that_of_the_delivery(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    """The consumer was forgotten, and made again by a runner with a shorter lease."""
    await held.give_back()
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
    broker: Broker, queues: WorkQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, failures = broker.api, [BrokerUnavailableError()]

    async def failing(subject: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if subject.startswith("CONSUMER.INFO") and failures:
            raise failures.pop()
        return await api(subject, *arguments, **options)

    assert await queues.pull(TOKEN, 0.02) is None
    await submit(broker, JOB)
    await until(queues.pending)  # WORK takes it from EVENTS a moment later
    monkeypatch.setattr(broker, "api", failing)
    with pytest.raises(BrokerUnavailableError):
        await queues.pull(TOKEN, PATIENCE)
    assert (await delivered(queues)).count == 2, "at once, not a lease later"


async def test_a_delivery_without_a_consumer_says_so(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    await delete_consumer(broker)
    with pytest.raises(ConsumerGoneError):
        await held.renew()
    again = await delivered(queues)
    assert (again.subject, again.count) == (held.subject, 1)
    assert again.origin != held.origin
    with pytest.raises(LeaseLostError):
        await held.give_back()
    await again.ack()
    assert await queues.pull(TOKEN, 0.05) is None


async def test_a_holder_acknowledges_what_another_got_too(broker: Broker, held: Delivery, other: WorkQueues) -> None:
    """The other gave it back for a lease, which the queue's next job does not wait for."""
    await submit(broker, NEXT)
    await delete_consumer(broker)
    theirs = await delivered(other)
    await theirs.give_back(30)
    await held.ack()
    await theirs.give_back()  # what was acknowledged does not come again
    following = await delivered(other)
    assert NEXT in following.subject
    with pytest.raises(LeaseLostError):
        await held.ack()
    await following.ack()
    await until(other.pending, lambda pending: not pending)


async def test_an_ack_says_nothing_of_a_stream_made_anew(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    """Its messages have the same numbers, and are other jobs."""
    for stream in (WORK, EVENTS):
        await broker.api(f"STREAM.DELETE.{stream}")
    await declare_anew(broker)
    await submit(broker, NEXT)
    await create_consumer(broker, TOKEN, LEASE)
    await until(queues.pending)
    assert await queues.reclaim(TOKEN, held.ack_subject, held.origin) is None, "another job has its number and waits"
    later = await delivered(queues)
    assert later.sequence == held.sequence
    with pytest.raises(LeaseLostError):
        await held.ack()
    assert await queues.reclaim(TOKEN, held.ack_subject, held.origin) is None
    assert await queues.pull(TOKEN, 0.05) is None, "still held"
    await later.ack()


@pytest.mark.soak
async def test_renewals_keep_a_job_that_another_received_from_a_new_consumer_and_gave_back(broker: Broker) -> None:
    queues, other = await work_queues(broker, lease=3), await work_queues(broker, lease=3)
    await submit(broker, JOB)
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


async def reclaimed(queues: WorkQueues, held: Delivery) -> JetStreamDelivery:
    delivery = await queues.reclaim(TOKEN, held.ack_subject, held.origin)
    assert isinstance(delivery, JetStreamDelivery)
    return delivery


async def test_a_delivery_is_reclaimed(held: Delivery, other: WorkQueues) -> None:
    again = await reclaimed(other, held)
    assert (again.subject, again.sequence, again.lease) == ("", held.sequence, held.lease)
    await again.ack()
    assert await other.reclaim(TOKEN, held.ack_subject, held.origin) is None, "acknowledged"
    others, no_number = f"$JS.ACK.WORK.{consumer_name('other')}.1.1.1.1.0", f"$JS.ACK.WORK.{CONSUMER}.1.x.1.1.0"
    for nonsense in ("", "nobody", others, no_number):
        assert await other.reclaim(TOKEN, nonsense, held.origin) is None


async def test_a_job_whose_consumer_is_gone_is_reclaimed(broker: Broker, held: Delivery, other: WorkQueues) -> None:
    await delete_consumer(broker)
    again = await reclaimed(other, held)
    assert (again.subject, again.count) == (held.subject, 1)
    assert again.origin != held.origin
    await again.ack()


async def test_a_job_that_another_has_first_is_reclaimed(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    """Whoever has it leaves it to its holder for a lease."""
    await delete_consumer(broker)
    theirs = await delivered(await work_queues(broker, lease=3))
    await theirs.give_back(3)
    again = await reclaimed(queues, held)
    assert again.lease == 3, "the new consumer's"
    with pytest.raises(LeaseLostError):
        await again.give_back()
    await again.ack()
    await until(queues.pending, lambda pending: not pending)
    assert await queues.reclaim(TOKEN, held.ack_subject, held.origin) is None, "acknowledged"


async def test_a_job_that_a_new_consumer_has_delivered_twice_is_reclaimed(
    broker: Broker, queues: WorkQueues, held: Delivery, other: WorkQueues
) -> None:
    """A nak made the second one. Whether its receiver may take the job over, the consumer's age tells it."""
    await delete_consumer(broker)
    await (await delivered(other)).give_back()
    theirs = await delivered(other)
    assert (theirs.count, theirs.after_expiry) == (2, False)
    await (await reclaimed(queues, held)).ack()


async def test_a_job_delivered_again_is_anothers(queues: WorkQueues, held: Delivery, other: WorkQueues) -> None:
    await held.give_back()
    theirs = await delivered(other)
    assert await queues.reclaim(TOKEN, held.ack_subject, held.origin) is None
    await theirs.ack()


@pytest.mark.parametrize("made", [True, False])
async def test_a_job_that_no_consumer_came_to_is_reclaimed(broker: Broker, queues: WorkQueues, made: bool) -> None:
    """Another runner was about to pull, or there is an earlier job that was acknowledged and not removed."""
    await submit(broker, JOB, NEXT)
    earlier = await delivered(queues)
    await broker.request(earlier.ack_subject, Msg.Ack.Ack)
    held = await delivered(queues)
    await delete_consumer(broker)
    if made:
        await create_consumer(broker, TOKEN, 30)
    mine = await reclaimed(queues, held)
    assert mine.sequence == held.sequence
    await mine.renew()
    again = await delivered(queues)
    assert (again.sequence, again.after_expiry) == (earlier.sequence, False)
    with pytest.raises(LeaseLostError):
        await mine.ack()  # not yet its turn: whoever receives it finds that it is over
    await again.ack()
    await (await delivered(queues)).ack()


async def test_another_job_of_a_new_consumer_is_given_back(broker: Broker, queues: WorkQueues, held: Delivery) -> None:
    """The job that was held is over, and its message is gone."""
    await submit(broker, NEXT)
    await held.ack()
    await until(queues.pending, lambda pending: pending == {TOKEN: 1})
    await delete_consumer(broker)
    assert await queues.reclaim(TOKEN, held.ack_subject, held.origin) is None
    again = await delivered(queues)
    assert (NEXT in again.subject, again.count) == (True, 2)


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_consumer_is_in_memory_on_a_single_server(broker: Broker, replicas: int) -> None:
    queues = await work_queues(broker, replicas=replicas)
    assert await queues.pull(TOKEN, 0.02) is None
    config = (await broker.api(f"CONSUMER.INFO.{WORK}.{CONSUMER}"))["config"]
    assert config.get("mem_storage", False) is (replicas == 1)
