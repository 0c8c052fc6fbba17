"""What the runner asks Vault about a job."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from stint.core.errors import JobFailedError
from stint.vault import AppRoleSession, SecretData, Vault
from stint_runner.inputs.opening import READS, Opener
from stint_runner.inputs.payload import NOT_MERGED, open_payload
from stint_runner.inputs.secretfile import SecretRef
from tests.support.events import utc_now


class Counting(Vault):
    """Counts the reads that it has been asked for, and how many there were at a time."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.asked = self.now = self.most = 0

    async def read(self, token: str, path: str) -> SecretData | None:
        del token
        self.asked, self.now = self.asked + 1, self.now + 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return SecretData({"k": path}) if path.startswith("kv") else None


async def _secrets(vault: Counting, *paths: str) -> dict[str, Any]:
    opener = Opener(vault=vault, session=AppRoleSession(vault, "", ""), role="", role_id="", now=utc_now)
    refs = [SecretRef(f"v{number}", path, "k") for number, path in enumerate(paths)]
    values, _ = await opener.secrets(refs, "token", cont_on_warnings=False)
    return dict(values)


async def test_a_job_with_many_paths_has_few_reads_at_a_time() -> None:
    vault, paths = Counting(), [f"kv/{number}" for number in range(3 * READS + 1)]
    assert list((await _secrets(vault, *paths, *paths)).values()) == [*paths, *paths]
    assert (vault.asked, vault.most) == (len(paths), READS)


async def test_after_a_path_that_is_not_there_no_further_ones_are_read() -> None:
    vault = Counting()
    with pytest.raises(JobFailedError, match="secret first from vault"):
        await _secrets(vault, "first", "second", *(f"kv/{number}" for number in range(READS)))
    assert vault.asked == READS


@pytest.mark.parametrize("compat", [False, True])
async def test_a_payload_of_many_lines_is_refused_without_being_taken_apart(*, compat: bool) -> None:
    async def decrypt(_line: str) -> bytes:
        raise AssertionError

    sealed = b"x" + b"\n" * 2_000_000 + b"x"
    tracemalloc.start()
    try:
        with pytest.raises(JobFailedError, match=NOT_MERGED):
            await open_payload(sealed, "q", decrypt, compat=compat)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(sealed)
    finally:
        tracemalloc.stop()
