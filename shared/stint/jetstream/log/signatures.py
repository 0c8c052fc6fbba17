"""Who signed events, as far as NATS and the logins of publishers prove it."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from stint.core.audit.signature import KeyOwner, verified_signer
from stint.core.events import NAME_LENGTH, Writer, writer_of
from stint.core.names.headers import SIGNATURE
from stint.core.names.streams import EVENTS
from stint.core.names.subjects import EventAddress
from stint.jetstream.key_owners import JetStreamKeyOwners
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import Stored, records, subject_of


class Signed(NamedTuple):
    """An event whose signature is right: its sequence, and who is behind it.

    That is who has signed it; if that was an API, then who had asked it, because the API writes what Vault has said.
    """

    sequence: int
    by: Writer


class JetStreamSignatures:
    """Reads events again, because an index keeps no bodies, and verifies their signatures."""

    def __init__(self, broker: Broker, owners: JetStreamKeyOwners) -> None:
        self._events = Stream(broker, EVENTS)
        self._owners = owners

    async def read(self, addresses: Collection[EventAddress]) -> Mapping[EventAddress, Signed]:
        """Those of up to 1024 events that are stored and whose signature is right."""
        messages = await self._events.last_of_all([address.subject for address in addresses])
        found = list(records(filter(_is_signed, messages)))
        signers = {record.signer for record in found}
        apis, owners = await self._owners.of_apis(signers), await self._owners.read(signers)
        return {
            EventAddress(record.kind, record.token, record.job_id): Signed(
                record.sequence,
                writer_of(record.event) if record.signer in apis else _owner(record.signer, owners.get(record.signer)),
            )
            for record in found
        }


def _is_signed(message: Stored) -> bool:
    text = (message.headers or {}).get(SIGNATURE, "")
    return bool(verified_signer(text, subject_of(message), message.data))


def _owner(nkey: str, owner: KeyOwner | None) -> Writer:
    """Who a key stands for: only itself, unless a login says more."""
    owner = owner or KeyOwner(owner="")
    return Writer(who=owner.who[:NAME_LENGTH], entity=owner.entity, accessor=owner.accessor, nats_user=nkey)
