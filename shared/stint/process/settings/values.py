"""The kinds of values that settings have."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from stint.core.errors import UndecodableError
from stint.core.submission.limits import parse_memory


def _bytes(value: int | str) -> int:
    try:
        return parse_memory(value)
    except UndecodableError as error:
        raise ValueError(error.sentence.removeprefix("memory ")) from None


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0, lt=2**63)]
"""A number, or one with `k`, `m`, `g` or `t`."""
Amount = Annotated[float, Field(ge=0)]
"""`stint.core.submission.limits` checks its upper bound."""
Seconds = Annotated[float, Field(gt=0, le=10**9)]
"""At most 31 years, which dates and the nanoseconds of NATS and Docker can represent."""
Pause = Annotated[float, Field(ge=0, le=10**9)]
"""Seconds, possibly 0."""
Port = Annotated[int, Field(ge=0, le=65535)]
"""0 means any free port."""
