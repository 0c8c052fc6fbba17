"""Who signed events, as far as NATS and the logins of publishers prove it."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from stint.core.events import NAME_LENGTH, Writer
from stint.core.names.headers import SIGNATURE
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import EventAddress, event_address
from stint.core.signature import KeyOwner, verified_signer
from stint.jetstream.key_owners import JetStreamKeyOwners
from stint.jetstream.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import sequence_of, subject_of


class Signed(NamedTuple):
    """An event whose signature is right: its sequence, and its signer."""

    sequence: int
    by: Writer


class JetStreamSignatures:
    """Reads events again, because an index keeps no bodies, and verifies their signatures."""

    def __init__(self, broker: Broker) -> None:
        self._events = Stream(broker, EVENTS)
        self._owners = JetStreamKeyOwners(broker)

    async def read(self, addresses: Collection[EventAddress]) -> Mapping[EventAddress, Signed]:
        """Those of up to 1024 events that are stored and whose signature is right, from any replica."""
        if not addresses:
            return {}
        signers: dict[EventAddress, tuple[int, str]] = {}
        for message in await self._events.last_of_each([address.subject for address in addresses]):
            subject, text = subject_of(message), (message.headers or {}).get(SIGNATURE, "")
            if signer := verified_signer(text, subject, message.data):
                signers[event_address(subject)] = sequence_of(message), signer
        owners = await self._owners.read({signer for _, signer in signers.values()})
        return {
            address: Signed(sequence, signed_by(signer, owners.get(signer)))
            for address, (sequence, signer) in signers.items()
        }


def signed_by(nkey: str, owner: KeyOwner | None) -> Writer:
    """Who a key stands for: only itself, unless a login says more."""
    if owner is None:
        return Writer(who="", entity="", accessor="", nats_user=nkey)
    return Writer(who=owner.who[:NAME_LENGTH], entity=owner.entity, accessor=owner.accessor, nats_user=nkey)
