"""The OpenBao that all tests of a session share."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class OpenBao:
    """A running server that tests share: take paths and role names of your own."""

    address: str
    root_token: str = field(repr=False)
