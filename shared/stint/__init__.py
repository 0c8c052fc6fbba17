"""Stint: jobs in containers, one at a time per named queue, on an event log."""

__version__ = "0.1.0"
