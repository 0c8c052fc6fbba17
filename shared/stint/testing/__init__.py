"""Fakes, scripted by data: those of Stint's ports, each of which passes its contract suite, and one for clients."""

from stint.testing.fake.ending import Ending
from stint.testing.fake.stint import FakeStint
from stint.testing.memory.events import MemoryEventLog
from stint.testing.memory.history import MemoryHistory
from stint.testing.memory.output import MemoryOutput
from stint.testing.memory.payloads import MemoryKept, MemoryPayloads
from stint.testing.memory.phases import MemoryPhases
from stint.testing.memory.views import MemoryViews

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
