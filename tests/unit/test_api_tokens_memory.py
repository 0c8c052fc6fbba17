"""What is remembered of a refusal holds nothing of the request that it was for."""

from http import HTTPStatus

import pytest

from stint.core.errors import VaultDeniedError
from stint_api.auth import Lookups, Memory
from stint_api.errors import RefusalError


class FakeVault:
    async def lookup_self(self, token: str) -> None:
        raise VaultDeniedError(f"no {len(token)}")


async def test_a_remembered_refusal_holds_no_frame() -> None:
    lookups = Lookups(FakeVault(), monotonic=lambda: 0.0)  # type: ignore[arg-type] # it is only asked about tokens
    for _ in range(3):
        with pytest.raises(RefusalError) as raised:
            await lookups.caller("a bad token")
        assert raised.value.code == HTTPStatus.FORBIDDEN
    kept = lookups._refusals.get("a bad token")  # noqa: SLF001 - what is kept is inside
    assert kept is not None
    assert (kept.__traceback__, kept.__context__, kept.__cause__) == (None, None, None)


def test_what_is_over_is_forgotten() -> None:
    now = 0.0
    memory = Memory[int](lambda: now)
    for number in range(100):
        memory.put(f"token {number}", number, 2)
    now = 3.0
    memory.put("another", 1, 2)
    assert len(memory._known) == 1  # noqa: SLF001 - likewise
