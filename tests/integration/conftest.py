"""An API on real servers, one for each module; modules that need another one have a `bench` of their own."""

from collections.abc import AsyncIterator

import pytest

from tests.support.api_bench import Bench, api
from tests.support.servers import NatsProcess, OpenBao


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao) as bench:
        yield bench


@pytest.fixture(scope="module")
async def compat(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    """The same with `STINT_COMPAT=gostint`."""
    async with api(nats.url, openbao, STINT_COMPAT="gostint") as bench:
        yield bench
