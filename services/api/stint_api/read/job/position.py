"""Where a client has read to in a job's events and output."""

import re
from dataclasses import dataclass
from typing import Final

from stint_api.read.job.lines import Beginning

_POSITION: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has read, as the `id` of its last event says.

    Attributes:
        fact: sequence of the last fact in EVENTS.
        output: sequence of the last chunk in LOGS.
        number: of that chunk.
    """

    fact: int = 0
    output: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"{self.fact}-{self.output}-{self.number}"

    @classmethod
    def before(cls, beginning: Beginning) -> "Position":
        """Of a client that wants all facts, and the output from there on."""
        return cls(output=beginning.after, number=beginning.number)

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Any other text is the beginning."""
        return cls(*map(int, text.split("-"))) if _POSITION.fullmatch(text) else cls()
