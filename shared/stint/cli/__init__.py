"""The `stint` command."""

import gc
import signal
import sys


def main() -> None:
    """The program.

    Until a command handles Ctrl-C itself, it ends the program at once, as with programs that are not Python's: without
    a traceback, and without waiting for a thread. Where it is ignored (`stint run … &` in a script) it stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _start_fast()
    from stint.cli.app import app_main  # noqa: PLC0415 - its imports take a while, in which Ctrl-C may come

    app_main()


def _start_fast() -> None:
    """Save 50 ms: httpx does without its own command line, and the collector without the garbage that imports make."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # httpx expects that it may be missing
    gc.set_threshold(100_000)
