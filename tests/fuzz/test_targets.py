"""Every target with its corpus and with changed cases: some in `make test`, for FUZZ_SECONDS each in `make soak`.

`make soak` sets 600 of them.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stint.vault import Vault, seal_ticket
from tests.fuzz import codec, configuration, content, documents, redaction, requests, subjects, submissions, tickets
from tests.fuzz.target import Target
from tests.support.api_bench import api_process
from tests.support.servers import NatsProcess, OpenBao
from tests.support.vault_bench import set_up

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 20)
SEED = int(os.environ.get("FUZZ_SEED") or 0)
ROUND = 200
"""Inputs between two looks at the clock."""
MODULES = (codec, submissions, content, documents, subjects, redaction, tickets, configuration, requests)
TARGETS = [module.TARGET for module in MODULES]
CASES = [(target, case) for target in TARGETS for case in target.corpus]

each = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@pytest.fixture(scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsProcess, openbao: OpenBao
) -> AsyncIterator[requests.Served]:
    folder: Path = tmp_path_factory.mktemp("api")
    async with api_process(folder, nats.url, openbao) as (process, http):
        yield requests.Served(process.port, http.headers["X-Auth-Token"].encode())
        assert process.running, process.log
        assert "Traceback" not in process.log


@pytest.fixture(scope="module")
async def sealed(openbao: OpenBao) -> str:
    await set_up(openbao)
    vault = Vault(openbao.address)
    return await seal_ticket(vault, openbao.root_token, tickets.REAL, queue_token=tickets.QUEUE, job_id=tickets.JOB)


@pytest.fixture(scope="module")
def bus(openbao: OpenBao, sealed: str) -> Iterator[tickets.Bus]:
    """With an event loop of its own, since hypothesis calls functions that are not async."""
    with asyncio.Runner() as runner:
        vault = Vault(openbao.address)
        runner.run(vault.__aenter__())
        yield tickets.Bus(runner, vault, openbao.root_token, sealed)
        runner.run(vault.__aexit__(None, None, None))


@pytest.fixture
def servers(target: Target, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(target.fixture) if target.fixture else None


@pytest.mark.parametrize(("target", "case"), CASES, ids=[f"{target.name}-{case}" for target, case in CASES])
def test_the_corpus(target: Target, case: str, servers: Any) -> None:
    target.run(target.corpus[case], servers)


@each
def test_some_changed_cases(target: Target, servers: Any) -> None:
    target.try_changed(servers, target.brief)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)  # the clock is looked at between two rounds, and one of some targets takes minutes
@each
def test_many_changed_cases(target: Target, servers: Any) -> None:
    end = time.monotonic() + SECONDS
    for number in count(SEED):
        if time.monotonic() > end:
            return
        target.try_changed(servers, ROUND, number)
