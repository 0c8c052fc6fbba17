"""Fakes, scripted by data: those of Stint's ports, each of which passes its contract suite, and one for clients."""

from stint.testing.client import FakeStint
from stint.testing.ending import Ending
from stint.testing.history import MemoryHistory
from stint.testing.kept import MemoryKept
from stint.testing.memory import MemoryEventLog, MemoryOutput, MemoryPayloads, MemoryViews
from stint.testing.phases import MemoryPhases

__all__ = [
    "Ending",
    "FakeStint",
    "MemoryEventLog",
    "MemoryHistory",
    "MemoryKept",
    "MemoryOutput",
    "MemoryPayloads",
    "MemoryPhases",
    "MemoryViews",
]
