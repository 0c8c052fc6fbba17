"""Fakes, scripted by data: those of Stint's ports, each of which passes its contract suite, and one for clients."""

from stint.testing.fake.jobs import Ending
from stint.testing.fake.stint import FakeStint
from stint.testing.memory.events import MemoryEventLog, MemoryHistory, MemoryPhases
from stint.testing.memory.stores import MemoryOutput, MemoryPayloads, MemoryViews

__all__ = [
    "Ending",
    "FakeStint",
    "MemoryEventLog",
    "MemoryHistory",
    "MemoryOutput",
    "MemoryPayloads",
    "MemoryPhases",
    "MemoryViews",
]
