"""The broker's ports in memory, for tests that need no server. They pass the same contract suite as JetStream."""

from stint.testing.memory.events import MemoryEventLog
from stint.testing.memory.history import MemoryHistory
from stint.testing.memory.kept import MemoryKept
from stint.testing.memory.output import MemoryOutput
from stint.testing.memory.payloads import MemoryPayloads
from stint.testing.memory.phases import MemoryPhases
from stint.testing.memory.views import MemoryViews

__all__ = [
    "MemoryEventLog",
    "MemoryHistory",
    "MemoryKept",
    "MemoryOutput",
    "MemoryPayloads",
    "MemoryPhases",
    "MemoryViews",
]
