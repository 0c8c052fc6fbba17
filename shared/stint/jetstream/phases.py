"""Reports of what is done for each job now: messages that no stream stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from nats.aio.subscription import Subscription

from stint.core.codec import decode
from stint.core.errors import UndecodableError
from stint.core.names.subjects import phase_subject
from stint.core.phase import JobPhase
from stint.jetstream.wire.broker import Broker
from stint.ports import PhaseReport, Place


class JetStreamPhases:
    """See `stint.ports.PhaseChannel`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def tell(self, place: Place, phase: JobPhase) -> None:
        await self._broker.send(phase_subject(*place), msgspec.json.encode(phase))

    @asynccontextmanager
    async def hear(self) -> AsyncIterator[AsyncIterator[PhaseReport]]:
        async with self._broker.subscribe(phase_subject("*", "*")) as subscription:
            yield _reports(subscription)


async def _reports(subscription: Subscription) -> AsyncIterator[PhaseReport]:
    async for message in subscription.messages:
        _, job_id, token = message.subject.split(".")
        try:
            yield PhaseReport(Place(token, job_id), decode(message.data, JobPhase))
        except UndecodableError:
            continue
