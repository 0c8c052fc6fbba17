"""What is remembered of tokens: of a refusal nothing of the request that it was for, and what a token may list."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeVar
from unittest.mock import AsyncMock

import msgspec
import pytest

from stint.core.errors import VaultDeniedError
from stint.core.job import State
from stint.vault import Caller
from stint_api.auth import (
    CACHE_SECONDS,
    LIST_QUESTIONS,
    PATHS_AT_A_TIME,
    REFUSED_SECONDS,
    Authenticator,
    Identity,
    Lookups,
    Memory,
)
from stint_api.errors import RefusalError
from stint_api.read.listing.lists import Lists
from stint_api.read.listing.query import Found, Page, Wanted
from stint_api.read.listing.table import Table
from tests.support.views import empty, job_view, stored

R = TypeVar("R")

QUEUES = [f"q{number}" for number in range(3 * PATHS_AT_A_TIME)]


class FakeVault:
    """Knows the token `good`, lets any read q0, and counts look-ups, and questions in all and at a time."""

    def __init__(self) -> None:
        self.lookups = self.asked = self._now = self.at_most = 0

    async def capabilities(self, _own: str, _token: str, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        self.asked += 1
        self._now += 1
        self.at_most = max(self.at_most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return {path: frozenset({"read"} if path.endswith("/q0") else {"deny"}) for path in paths}

    async def lookup_self(self, token: str) -> Caller:
        self.lookups += 1
        if token != "good":
            raise VaultDeniedError(f"no {len(token)}")
        return Caller(display_name="good", num_uses=0, ttl=0, policies=())


async def test_a_refusal_is_remembered_for_a_moment_and_without_a_frame() -> None:
    vault, now = FakeVault(), 0.0
    lookups = Lookups(vault, monotonic=lambda: now)  # type: ignore[arg-type] # it is only asked about tokens
    for asked_at, times in ((0.0, 1), (0.0, 1), (REFUSED_SECONDS, 2)):
        now = asked_at
        with pytest.raises(RefusalError) as raised:
            await lookups.caller("a bad token")
        assert (raised.value.code, vault.lookups) == (HTTPStatus.FORBIDDEN, times)
    kept = lookups._refusals.get("a bad token")  # noqa: SLF001 - what is kept is inside
    assert kept is not None
    assert (kept.__traceback__, kept.__context__, kept.__cause__) == (None, None, None)


async def test_a_token_is_remembered_no_longer_than_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    vault, now = FakeVault(), 0.0
    ends_soon = Caller(display_name="good", num_uses=0, ttl=CACHE_SECONDS / 2, policies=())
    lookups = Lookups(vault, monotonic=lambda: now)  # type: ignore[arg-type] # likewise
    monkeypatch.setattr(FakeVault, "lookup_self", AsyncMock(side_effect=[ends_soon, VaultDeniedError("ended")]))
    await lookups.caller("good")
    await lookups.caller("good")
    now = CACHE_SECONDS / 2
    with pytest.raises(RefusalError):
        await lookups.caller("good")


async def test_refusals_displace_no_good_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stint_api.auth.CACHE_SIZE", 3)
    vault, bad = FakeVault(), [f"bad {number}" for number in range(10)]
    lookups = Lookups(vault, monotonic=lambda: 0.0)  # type: ignore[arg-type] # likewise
    await lookups.caller("good")
    for token in (*bad, bad[0]):
        with pytest.raises(RefusalError):
            await lookups.caller(token)
    await lookups.caller("good")
    assert vault.lookups == 1 + len(bad) + 1, "the first bad one is forgotten, the good one is not"


def test_no_more_is_remembered_than_fits_and_nothing_that_is_over() -> None:
    now, known = 0.0, range(110)
    memory = Memory[int](lambda: now, 100)
    for number in known:
        memory.put(f"token {number}", number, 2)
    assert [number for number in known if memory.get(f"token {number}") is not None] == [*known[10:]]
    now = 3.0
    memory.put("another", 1, 2)
    assert len(memory._known) == 1  # noqa: SLF001 - likewise


class FakeSession:
    async def token(self) -> str:
        return "own"

    async def call(self, request: Callable[[str], Awaitable[R]]) -> R:
        return await request("own")


class Index:
    """A table of jobs, one in each queue."""

    def __init__(self) -> None:
        self.table = empty()
        self.add(*QUEUES)

    def add(self, *qnames: str, status: str = "success") -> None:
        for qname in qnames:
            job = msgspec.structs.replace(job_view(0, qname=qname, status=status), job_id=secrets.token_hex(12))
            self.table.apply([stored(job)])

    async def ask(self, question: Callable[[Table], R]) -> R:
        return question(self.table)

    async def find(self, page: Page) -> Found:
        return self.table.find(page)


class Lister:
    """Lists all queues with any token, on a clock that a test moves."""

    def __init__(self) -> None:
        self.vault, self.index, self.now = FakeVault(), Index(), 0.0
        parts = (Lookups(self.vault, monotonic=self.clock), self.vault, FakeSession())  # type: ignore[arg-type] # fakes
        auth = Authenticator(*parts, by_policy=True)  # type: ignore[arg-type] # likewise
        self._lists = Lists(self.index, auth, monotonic=self.clock)  # type: ignore[arg-type] # likewise

    def clock(self) -> float:
        return self.now

    async def list(self, token: str, caller: str = "", **wanted: object) -> list[str]:
        identity = Identity(name="", token=token, caller=caller or token)
        found = await self._lists.find(identity, Page(wanted=Wanted(**wanted), limit=100))  # type: ignore[arg-type] # names of queues only
        assert found.total == len(found.jobs)
        return [job.qname for job in found.jobs]


async def test_what_a_token_may_list_is_remembered_for_a_moment() -> None:
    lister = Lister()
    for _ in range(3):
        assert await lister.list("one") == ["q0"]
    assert lister.vault.asked == 3
    lister.index.add("new", "newer")
    assert await lister.list("one") == ["q0"]
    assert lister.vault.asked == 4, "only about queues that are new"
    assert await lister.list("one", qname="q1") == []
    assert await lister.list("one", qname="q0") == ["q0"]
    assert lister.vault.asked == 4
    assert await lister.list("two", caller="one") == ["q0"]
    assert lister.vault.asked == 8, "another token of the same identity may have other policies"
    lister.now += CACHE_SECONDS
    assert await lister.list("one") == ["q0"]
    assert lister.vault.asked == 12
    lister.now += CACHE_SECONDS
    assert await lister.list("one", qname="q0") == ["q0"]
    assert lister.vault.asked == 13


async def test_a_list_of_jobs_that_are_not_over_asks_only_about_their_queues() -> None:
    lister = Lister()
    lister.index.add("q0", "q1", "another", status="running")
    for _ in range(2):
        assert await lister.list("one", status=State.RUNNING) == ["q0"]
        assert await lister.list("one", status=State.QUEUED) == []
    assert lister.vault.asked == 1
    assert await lister.list("one", status=State.SUCCESS) == ["q0"]
    assert lister.vault.asked == 4


async def test_a_callers_lists_ask_one_question_at_a_time_and_all_lists_a_few() -> None:
    lister = Lister()
    await asyncio.gather(*(lister.list("one") for _ in range(5)))
    assert (lister.vault.asked, lister.vault.at_most) == (3, 1)
    await asyncio.gather(*(lister.list(f"other {number}") for number in range(5)))
    assert (lister.vault.asked, lister.vault.at_most) == (18, LIST_QUESTIONS)
