"""A stack that the tests of a module share."""

from collections.abc import AsyncIterator

import pytest

from tests.support.stack import Stack, dev


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """`stint dev` with two runners."""
    async with dev(tmp_path_factory.mktemp("dev"), "--runners", "2") as stack:
        yield stack
