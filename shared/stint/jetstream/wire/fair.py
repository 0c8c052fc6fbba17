"""Requests about queues, of which those about one do not keep those about others waiting for long."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from nats.aio.msg import Msg

from stint.core.errors import StintError
from stint.jetstream.wire.broker import Broker

log = structlog.get_logger()

AT_A_TIME: Final = 32  # requests that are answered at a time
OF_ALL: Final = 1024  # requests that wait for that: as many as are answered in a second, before their senders give up


async def answer_fairly(
    broker: Broker, subject: str, group: str, answer: Callable[[Msg], Awaitable[None]], *, of_a_queue: int
) -> None:
    """Answer requests until cancelled: of a queue group, so that one of its processes answers each.

    The second token of the `subject` names the queue. More than `of_a_queue` requests that wait about the same queue
    are dropped, because to refuse each would keep the process busy: anybody may send any number, and whoever gets no
    answer asks again. So it is with an `answer` that fails.
    """
    free, waiting = asyncio.Semaphore(AT_A_TIME), Counter[str]()
    await broker.wait_connected()
    async with asyncio.TaskGroup() as tasks:

        async def in_turn(message: Msg, token: str) -> None:
            try:
                async with free:
                    await answer(message)
            except StintError as error:
                log.debug("a request could not be answered", asked=group, error=error.sentence)
            except Exception:  # one request must not end the service
                log.exception("a request could not be answered", asked=group)
            finally:
                waiting.subtract([token])
                if not waiting[token]:
                    del waiting[token]

        async def on_request(message: Msg) -> None:
            token = message.subject.split(".")[1]
            if waiting[token] < of_a_queue and waiting.total() < OF_ALL:
                waiting[token] += 1
                tasks.create_task(in_turn(message, token))

        async with broker.subscribe(subject, queue=group, cb=on_request):
            await asyncio.get_running_loop().create_future()
