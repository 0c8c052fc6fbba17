"""The `stint` command."""

from stint.cli.main import main

__all__ = ["main"]
