"""Whose keys sign events, in the bucket `signers`, which the API reads.

Publishers' keys are written there by `stint nats-auth`, and those of APIs by themselves. Neither may write the others.
"""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from stint.core.audit.signature import KeyOwner
from stint.core.codec import decode, encode
from stint.core.errors import BrokerUnavailableError, UndecodableError
from stint.core.names.streams import SIGNERS_BUCKET, api_signer_key
from stint.jetstream.streams.bucket import Bucket
from stint.jetstream.wire.broker import Broker

RENEWED: Final = 24 * 3600  # seconds after which a login with a key renews its entry
KEPT: Final = 2  # histories for which it is known whose a key is. One is not enough: it begins with the end of a job
ATTEMPTS: Final = 3  # writes of an entry that others write at the same time


class JetStreamKeyOwners:
    """The first login with a key decides whose it is, for as long as it is used."""

    def __init__(self, broker: Broker, own: str = "") -> None:
        """`own` is the public nkey with which this process signs as an API, if it is one."""
        self._bucket = Bucket(broker, SIGNERS_BUCKET)
        self._own = own

    async def record_own(self, *, ttl: float) -> None:
        """Write down for `ttl` seconds that an API signs with this process's key. After an error it may be written."""
        await self._bucket.write(api_signer_key(self._own), encode(KeyOwner(owner="api")), ttl=ttl)

    async def of_apis(self, nkeys: Collection[str]) -> Collection[str]:
        """Those of up to 1024 keys with which an API signs or has signed."""
        others = {api_signer_key(nkey): nkey for nkey in nkeys if nkey != self._own}
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

    async def read(self, nkeys: Collection[str]) -> Mapping[str, KeyOwner]:
        """The owners of up to 1024 keys, without those of whose logins nothing is known."""
        others = [nkey for nkey in nkeys if nkey != self._own]
        found = {entry.key: _owner(entry.value) for entry in await self._bucket.some(others)}
        return {nkey: owner for nkey, owner in found.items() if owner}


def _owner(value: bytes | None) -> KeyOwner | None:
    try:
        return decode(value, KeyOwner) if value else None
    except UndecodableError:
        return None
