"""The KV bucket `pauses`. It has a key for each queue that is paused; its stream republishes each change as a hint."""

from collections.abc import AsyncIterator, Mapping

from stint.core.codec import encode
from stint.core.names.ids import is_queue_token
from stint.core.names.streams import PAUSES_BUCKET, WORK
from stint.core.names.subjects import event_address, names_job, work_subject
from stint.core.pause import Pause, read_pause
from stint.jetstream.streams.bucket import Bucket
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import origin_of


class JetStreamPauses:
    """See `stint.ports.Pauses`.

    A key is written as it was read: a request that nobody waits for any more may reach NATS after a later one.
    """

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, PAUSES_BUCKET)
        self._work = Stream(broker, WORK)

    async def find(self, token: str) -> Pause | None:
        entry = await self._bucket.read(token)
        return read_pause(entry.value) if entry and entry.value is not None else None

    async def all(self) -> Mapping[str, Pause]:
        found = {key: value async for key, _, value in self._bucket.current_entries()}
        return {key: read_pause(value) for key, value in found.items() if value is not None and is_queue_token(key)}

    async def put(self, token: str, pause: Pause) -> None:
        while not await self._bucket.write(token, encode(pause), revision=await self._revision(token)):
            pass  # somebody else was first

    async def remove(self, token: str) -> None:
        while not await self._bucket.delete(token, revision=await self._revision(token)):
            pass

    async def _revision(self, token: str) -> int:
        entry = await self._bucket.read(token)
        return entry.revision if entry else 0

    async def waiting(self, token: str) -> AsyncIterator[str]:
        async for message in self._work.each(work_subject(token)):
            if names_job(subject := origin_of(message).subject):
                yield event_address(subject).job_id
