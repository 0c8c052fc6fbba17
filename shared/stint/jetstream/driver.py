"""Adapts nats-py: maps its errors to Stint's, insists on TLS, and repairs its handling of cancellation."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from stint.core.errors import BrokerRefusedError, BrokerUnavailableError
from stint.jetstream.answers import status_of

log = structlog.get_logger()
T = TypeVar("T")


class NoAnswerError(BrokerUnavailableError):
    """NATS did not answer, and may have received the request."""


class TlsClient(Client):
    """A client that connects with TLS or not at all, like NATS clients in other languages.

    nats-py itself uses TLS only if the server asks for it. A server that does not ask, or somebody in between who
    removes that from the greeting, would get the credentials unencrypted.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Require TLS when the greeting arrives, before anything is sent."""
        scheme = self._current_server.uri.scheme if self._current_server else ""
        if initial_connection and scheme != "wss":  # which is encrypted already
            if scheme == "ws" or not (info.get("tls_required") or info.get("tls_available")):
                raise PlaintextError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


class PlaintextError(nats.errors.Error):
    """TLS is asked for, and the server offers none."""


class NoRespondersError(BrokerUnavailableError):
    """Nobody listens on the subject, so nothing was accepted."""


@contextmanager
def mapped() -> Iterator[None]:
    """Map the driver's errors to Stint's."""
    try:
        yield
    except (nats.errors.TimeoutError, OSError):
        raise NoAnswerError from None
    except nats.errors.NoRespondersError:
        raise NoRespondersError from None
    except nats.errors.Error as error:
        raise BrokerUnavailableError(f"NATS: {type(error).__name__}.") from error


async def next_message(subscription: Subscription, timeout: float) -> Msg:  # noqa: ASYNC109 - NATS' own
    """The next message of a subscription.

    Raises:
        NoAnswerError: none came within `timeout` seconds.
        BrokerUnavailableError: the connection is gone for good.
    """
    with mapped():
        return await _cancellable(subscription.next_msg(timeout=timeout))


async def collect(subscription: Subscription, wait: float) -> list[Msg]:
    """The answers of a direct get up to the server's end mark; at most `wait` seconds for each message.

    Raises:
        BrokerRefusedError: the stream refused the request.
    """
    messages: list[Msg] = []
    while True:
        message = await next_message(subscription, wait)
        match status_of(message):
            case "":
                messages.append(message)
            case "204" | "404":
                return messages
            case "503":
                raise BrokerUnavailableError
            case status:
                raise BrokerRefusedError(f"NATS refused to read: {status}.")


async def _cancellable(work: Awaitable[T]) -> T:
    """Await a call of nats-py without losing a cancellation.

    Before Python 3.12 `asyncio.wait_for`, which it uses, swallows one that comes together with the result.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await work
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def quietly_unsubscribe(subscription: Subscription) -> None:
    """End a subscription. Without a connection nothing needs to be done."""
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        log.debug("unsubscribe failed", subject=subscription.subject)
