"""Signing events, and who signed them, as far as NATS and the logins of publishers prove it.

Whose keys sign is in the bucket `signers`, which the API reads. `stint nats-auth` writes publishers' keys there, and
APIs their own. Neither may write the others.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

import msgspec
import nkeys

from stint.core.audit.signature import KeyOwner, signature_text, signed_bytes, verified_signer
from stint.core.codec import decode, encode
from stint.core.errors import BrokerUnavailableError, UndecodableError
from stint.core.events import NAME_LENGTH, Writer, writer_of
from stint.core.names.headers import SIGNATURE
from stint.core.names.streams import EVENTS, SIGNERS_BUCKET, api_signer_key
from stint.core.names.subjects import EventAddress
from stint.jetstream.streams.bucket import Bucket
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import Stored, records, subject_of

RENEWED: Final = 24 * 3600  # seconds after which a login with a key renews its entry
KEPT: Final = 2  # histories for which it is known whose a key is. One is not enough: it begins with the end of a job
ATTEMPTS: Final = 3  # writes of an entry that others write at the same time


@dataclass(frozen=True, kw_only=True)
class EventSigner:
    """Signs events with the nkey that has this `seed`, "" for none: for those who may publish them."""

    seed: str = field(default="", repr=False)

    @classmethod
    def new(cls) -> Self:
        return cls(seed=nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())

    @cached_property
    def _pair(self) -> Any:
        """Its key. The library takes a moment to make it, and to name it the first time."""
        return nkeys.from_seed(self.seed.encode())

    @property
    def nkey(self) -> str:
        """Its public nkey, "" for none."""
        return str(self._pair.public_key.decode()) if self.seed else ""

    def headers(self, subject: str, body: bytes) -> Mapping[str, str]:
        """The header that proves who wrote this message; nothing without a key."""
        return {SIGNATURE: self.signature(subject, body)} if self.seed else {}

    def signature(self, subject: str, body: bytes) -> str:
        """The signature as text. There must be a key."""
        return signature_text(self.nkey, self._pair.sign(signed_bytes(subject, body)))


class JetStreamKeyOwners:
    """The first login with a key decides whose it is, for as long as it is used."""

    def __init__(self, broker: Broker, own: str = "") -> None:
        """`own` is the public nkey with which this process signs as an API, if it is one."""
        self._bucket = Bucket(broker, SIGNERS_BUCKET)
        self._own = own

    async def record_own(self, *, ttl: float) -> None:
        """Write down for `ttl` seconds that an API signs with this process's key. After an error it may be written."""
        await self._bucket.write(api_signer_key(self._own), encode(KeyOwner(owner="api")), ttl=ttl)

    async def of_apis(self, keys: Collection[str]) -> Collection[str]:
        """Those of up to 1024 keys with which an API signs or has signed."""
        others = {api_signer_key(nkey): nkey for nkey in keys if nkey != self._own}
        found = await self._bucket.some(others)
        return {self._own, *(others[entry.key] for entry in found if _owner(entry.value))}

    async def claim(self, nkey: str, owner: KeyOwner, *, ttl: float) -> bool:
        """Write down whose key this is, for `ttl` seconds after its last login. False if it is somebody else's.

        Raises:
            BrokerUnavailableError, BrokerRefusedError: it is not known whether it is written.
        """
        wanted, revision = owner, 0
        for _ in range(ATTEMPTS):
            if await self._bucket.write(nkey, encode(wanted), revision=revision, ttl=ttl):
                return True
            entry = await self._bucket.read(nkey)
            revision = entry.revision if entry else 0  # of the marker, if it has expired
            if present := _owner(entry.value if entry else None):
                if present.owner != owner.owner or owner.at - present.at < RENEWED:
                    return present.owner == owner.owner
                wanted = msgspec.structs.replace(present, at=owner.at)
        raise BrokerUnavailableError("The key's owner was changed by others at the same time.")

    async def read(self, keys: Collection[str]) -> Mapping[str, KeyOwner]:
        """The owners of up to 1024 keys, without those of whose logins nothing is known."""
        others = [nkey for nkey in keys if nkey != self._own]
        found = {entry.key: _owner(entry.value) for entry in await self._bucket.some(others)}
        return {nkey: owner for nkey, owner in found.items() if owner}


def _owner(value: bytes | None) -> KeyOwner | None:
    try:
        return decode(value, KeyOwner) if value else None
    except UndecodableError:
        return None


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
                writer_of(record.event) if record.signer in apis else _writer(record.signer, owners.get(record.signer)),
            )
            for record in found
        }


def _is_signed(message: Stored) -> bool:
    text = (message.headers or {}).get(SIGNATURE, "")
    return bool(verified_signer(text, subject_of(message), message.data))


def _writer(nkey: str, owner: KeyOwner | None) -> Writer:
    """Who a key stands for: only itself, unless a login says more."""
    owner = owner or KeyOwner(owner="")
    return Writer(who=owner.who[:NAME_LENGTH], entity=owner.entity, accessor=owner.accessor, nats_user=nkey)
