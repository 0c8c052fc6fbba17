"""A process that crashes leaves none of its memory behind."""

import subprocess
import sys

import pytest

ALLOWED = "import ctypes, resource as r; r.setrlimit(r.RLIMIT_CORE, (r.getrlimit(r.RLIMIT_CORE)[1],) * 2)"
PREVENTED = "from stint.process.core_dumps import prevent_core_dumps; prevent_core_dumps()"
TOLD = "print(r.getrlimit(r.RLIMIT_CORE)[0] == 0, ctypes.CDLL(None).prctl(3))"
"""Whether the limit is 0, and the flag that PR_GET_DUMPABLE reads. A crash leaves a core only with neither: core(5)."""


@pytest.mark.parametrize(("prepared", "told"), [("0", "False 1"), (PREVENTED, "True 0")])
def test_a_service_asks_for_no_core_dump(prepared: str, told: str) -> None:
    """The limit does not count if `core_pattern` names a program, but then the flag does."""
    code = f"{ALLOWED}; {prepared}; {TOLD}"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    limited = found.stdout.strip().replace("True 1", "False 1")  # where no process of this machine may dump
    assert limited == told
