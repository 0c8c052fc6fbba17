"""A process that crashes leaves none of its memory behind."""

import os
import resource
import sys
from pathlib import Path

import pytest

ALLOWED = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (r.getrlimit(r.RLIMIT_CORE)[1],) * 2)"
PREVENTED = "from stint.process.core_dumps import prevent_core_dumps; prevent_core_dumps()"
NOT_LIMITED = f"r.setrlimit = lambda *_: None; {PREVENTED}"


@pytest.mark.skipif(not resource.getrlimit(resource.RLIMIT_CORE)[1], reason="nothing may dump core here")
@pytest.mark.parametrize(("prepared", "dumps"), [("0", True), (PREVENTED, False), (NOT_LIMITED, False)])
def test_a_crash_dumps_no_core(prepared: str, dumps: bool, tmp_path: Path) -> None:
    """Without the limit, which does not count if `core_pattern` names a program, the flag is enough."""
    code = f"{ALLOWED}; {prepared}; import os; os.abort()"
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"], {})
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WCOREDUMP(status) is dumps
