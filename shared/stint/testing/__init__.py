"""Fakes of Stint's ports, scripted by data. Each passes the contract suite of its port."""

from stint.testing.history import MemoryHistory
from stint.testing.memory import MemoryEventLog, MemoryOutput, MemoryPayloads, MemoryViews

__all__ = ["MemoryEventLog", "MemoryHistory", "MemoryOutput", "MemoryPayloads", "MemoryViews"]
