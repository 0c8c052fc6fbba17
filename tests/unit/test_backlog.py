"""The queues that wait for a runner's slots, and waiting itself."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from stint.ports import Hint, Outcome, WorkQueues
from stint.process.waiting import InterruptedByEventError, unless
from stint.testing import MemoryEventLog
from stint_runner.dispatch.finder import PASSES, TURNS, Backlog, Finder, Lead, Tried
from stint_runner.retry import append_events
from tests.support.events import TOKEN, started, submitted


def add(backlog: Backlog, *tokens: str) -> None:
    for token in tokens:
        backlog.add(Lead(token))


async def taken(backlog: Backlog, count: int = 1) -> list[str]:
    return [(await backlog.take()).token for _ in range(count)]


async def test_queues_come_in_turn_and_once() -> None:
    backlog = Backlog(patience=100)
    add(backlog, "a", "b", "a", "c", "b")
    assert await taken(backlog, 3) == ["a", "b", "c"]
    assert len(backlog) == 0


async def test_a_queue_that_is_taken_comes_back_after_its_release() -> None:
    backlog = Backlog(patience=100)
    add(backlog, "a")
    assert await taken(backlog) == ["a"]
    add(backlog, "a")
    assert len(backlog) == 0, "one slot a queue"
    add(backlog, "b")
    backlog.release("a", Tried.DONE)
    assert await taken(backlog, 2) == ["b", "a"]
    backlog.release("a", Tried.DONE)
    backlog.release("b", Tried.MORE)
    assert await taken(backlog) == ["b"]
    assert len(backlog) == 0


async def test_fresh_queues_come_first_whether_they_wait_already_or_not() -> None:
    backlog = Backlog(patience=100)
    add(backlog, "a", "b", "c")
    backlog.add(Lead("d", fresh=True))
    backlog.add(Lead("c", fresh=True))
    add(backlog, "d")
    assert (backlog.fresh, len(backlog)) == (2, 4)
    assert [await backlog.take(), await backlog.take()] == [Lead("d", fresh=True), Lead("c", fresh=True)]
    assert await taken(backlog, 2) == ["a", "b"]


class Passed:
    """Work queues that keep the hints that are passed on."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []

    async def hint(self, token: str, *, passed: int = 0, returned: bool = False) -> None:
        self.hints.append(Hint(token, passed, returned=returned))


async def nothing_resumed() -> Sequence[str]:
    return ()


@pytest.mark.parametrize("fit", [True, False])
async def test_who_cannot_run_a_job_keeps_the_hint_that_it_was_given_back_if_there_is_nobody_else(
    fit: bool,
) -> None:
    backlog, queues = Backlog(patience=100), Passed()
    finder = Finder(cast("WorkQueues", queues), backlog, lambda: False, lambda: fit, nothing_resumed)
    add(backlog, "a")
    await backlog.take()  # by a slot that has given its job back, and steps back
    for hint in (Hint("a", returned=True), Hint("a", 1, returned=True, ours=True)):
        await finder._consider(hint)  # noqa: SLF001 - as it hears it
    assert queues.hints == ([] if fit else [Hint("a", 1, returned=True), Hint("a", 2, returned=True)])
    await finder._consider(Hint("a", PASSES, returned=True, ours=True))  # noqa: SLF001 - likewise
    backlog.release("a", Tried.DONE)
    assert await backlog.take() == Lead("a", hinted=True, returned=True)


async def test_a_job_that_was_given_back_is_not_forgotten() -> None:
    backlog = Backlog(patience=100)
    backlog.add(Lead("a", returned=True))
    add(backlog, "a")
    assert await backlog.take() == Lead("a", returned=True)
    add(backlog, "a")
    backlog.add(Lead("a", returned=True))
    backlog.release("a", Tried.DONE)
    assert await backlog.take() == Lead("a", returned=True)
    backlog.release("a", Tried.MORE)
    assert await backlog.take() == Lead("a")


async def test_a_queue_that_has_more_comes_after_the_others_or_after_some_tries_in_vain() -> None:
    backlog = Backlog(patience=100)
    add(backlog, "mine", "yours", *"abcdefgh")
    for token in await taken(backlog, 2):
        backlog.release(token, Tried.MORE)
    tried = []
    while (token := (await taken(backlog))[0]) != "mine":
        tried.append(token)
        backlog.release(token, Tried.VAIN)
    assert tried == list("abcdefgh")[:TURNS]
    assert await taken(backlog) == ["e"], "the next one that has more waits for its own tries in vain"
    backlog.release("mine", Tried.MORE)
    for _ in "fgh":
        backlog.release((await taken(backlog))[0], Tried.DONE)
    assert await taken(backlog, 2) == ["yours", "mine"]


async def test_after_many_tries_in_vain_only_hints_are_kept() -> None:
    backlog = Backlog(patience=TURNS + 1)
    add(backlog, *"abcdefgh")
    backlog.add(Lead("i", hinted=True))
    assert backlog.hinted() == [Lead("i", hinted=True)]
    for token in "abcde":
        assert await taken(backlog) == [token]
        backlog.release(token, Tried.VAIN)
    assert len(backlog) == 1
    assert await taken(backlog) == ["i"]


async def test_whoever_waits_is_woken() -> None:
    backlog = Backlog(patience=100)
    taking = [asyncio.create_task(backlog.take()) for _ in range(2)]
    await asyncio.sleep(0)  # they begin to wait
    add(backlog, "a", "b")
    assert sorted(lead.token for lead in await asyncio.gather(*taking)) == ["a", "b"]
    another = asyncio.create_task(backlog.take())
    await asyncio.sleep(0)  # likewise
    backlog.release("a", Tried.MORE)
    assert await another == Lead("a")


async def test_an_event_cancels_work_that_is_not_done_first_and_lets_it_clean_up() -> None:
    event, begun, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    waiting = asyncio.create_task(unless(event, work()))
    await begun.wait()
    event.set()
    with pytest.raises(InterruptedByEventError):
        await waiting
    assert cleaned.is_set()
    assert await unless(asyncio.Event(), asyncio.sleep(0, 7)) == 7


async def test_an_append_is_repeated_until_its_outcome_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    log, doubts = MemoryEventLog(), iter([Outcome.UNKNOWN] * 2)
    append = log.append

    async def doubtful(*event: Any, **condition: Any) -> Outcome:
        outcome = await append(*event, **condition)
        return next(doubts, outcome)

    monkeypatch.setattr(log, "append", doubtful)
    assert await append_events(log, TOKEN, "0" * 24, submitted())
    assert await append_events(log, TOKEN, "0" * 24, started())
    assert not await append_events(log, TOKEN, "0" * 24, started("another"))
