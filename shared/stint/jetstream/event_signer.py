"""Signing events with an nkey, by those who may publish them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import nkeys

from stint.core.audit.signature import signature_text, signed_bytes
from stint.core.names.headers import SIGNATURE


@dataclass(frozen=True, kw_only=True)
class EventSigner:
    """Signs events with the nkey that has this `seed`, "" for none."""

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
