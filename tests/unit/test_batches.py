"""One call for what many ask for at the same time; several things at a time, or again and again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from weakref import ReferenceType, ref

import pytest

from stint.core.errors import StintError, VaultDeniedError, VaultRefusedError
from stint.process import waiting
from stint.process.batches import BATCH_SIZE, Batches
from stint.process.waiting import both, for_each
from stint_runner.together import side_by_side


class Asked:
    """Answers each question with its double; waits until it may. A negative number refuses its whole call."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[list[int]] = []
        self.begun = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.error = error

    async def __call__(self, questions: Sequence[int]) -> Sequence[int]:
        self.calls.append([*questions])
        self.begun.set()
        await self.may_answer.wait()
        if self.error:
            raise self.error
        if min(questions) < 0:
            raise VaultRefusedError(f"refused {min(questions)}")
        return [2 * question for question in questions]


async def ask(asked: Asked, *questions: int) -> Sequence[int | BaseException]:
    """Ask 0, and all of these during that call. Their answers or errors."""
    batches = Batches(asked, alone=VaultRefusedError)
    first = asyncio.create_task(batches.ask(0))
    await asked.begun.wait()
    asking = asyncio.gather(*(batches.ask(question) for question in questions), return_exceptions=True)
    await asyncio.sleep(0)
    asked.may_answer.set()
    await asyncio.wait({first})
    ends = await asking
    assert first.exception() or await batches.ask(5) == 10
    return ends


async def test_who_is_alone_is_answered_without_a_task() -> None:
    asked = Asked()
    asked.may_answer.set()
    with pytest.raises(StopIteration, match="14"):
        Batches(asked, alone=VaultRefusedError).ask(7).send(None)  # it waits for nothing but the answer


async def test_what_comes_during_a_call_is_asked_by_the_next_one() -> None:
    asked = Asked()
    assert await ask(asked, 2, 3, 4) == [4, 6, 8]
    assert asked.calls == [[0], [2, 3, 4], [5]]


async def test_a_refused_batch_is_asked_one_by_one() -> None:
    asked = Asked()
    ends = await ask(asked, 1, -2, 3)
    assert [ends[0], ends[2]] == [2, 6]
    assert str(ends[1]) == "refused -2"
    assert asked.calls == [[0], [1, -2, 3], [1], [-2], [3], [5]]


async def test_any_other_error_is_everybodys_own() -> None:
    for error in (VaultDeniedError("no"), ValueError("a fault")):
        error.code = 403  # type: ignore[union-attr]
        asked = Asked(error)
        ends = await ask(asked, 1, 2)
        assert asked.calls == [[0], [1, 2]]
        assert [(type(end), str(end), vars(end)["code"]) for end in ends] == [(type(error), str(error), 403)] * 2
        assert ends[0] is not ends[1]


async def three_callers(asked: Asked) -> list[asyncio.Task[int]]:
    """The first one's question is asked, the others wait for its answer."""
    batches = Batches(asked, alone=VaultRefusedError)
    first = asyncio.create_task(batches.ask(1))
    await asked.begun.wait()
    others = [asyncio.create_task(batches.ask(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    return [first, *others]


async def test_a_caller_that_leaves_takes_its_question_back() -> None:
    asked = Asked()
    first, leaving, staying = await three_callers(asked)
    leaving.cancel()
    first.cancel()
    await asyncio.wait({leaving, first})
    asked.may_answer.set()
    assert await staying == 6
    assert asked.calls == [[1], [3]]


@pytest.mark.parametrize("error", [None, ValueError("a fault")])
async def test_a_caller_that_leaves_during_the_call_takes_nothing_from_others(error: Exception | None) -> None:
    asked = Asked()
    first, leaving, staying = await three_callers(asked)
    asked.begun.clear()
    asked.may_answer.set()
    asked.may_answer = asyncio.Event()
    assert await first == 2
    await asked.begun.wait()
    leaving.cancel()
    asked.error = error
    asked.may_answer.set()
    async with asyncio.timeout(5):
        (end,) = await asyncio.gather(staying, return_exceptions=True)
    assert str(end) == str(error or 6)


async def test_a_batch_has_a_largest_size() -> None:
    asked = Asked()
    await ask(asked, *range(BATCH_SIZE + 1))
    assert [len(call) for call in asked.calls] == [1, BATCH_SIZE, 1, 1]


@pytest.mark.usefixtures("no_garbage_collector")
async def test_what_a_caller_held_is_freed_at_once_if_it_is_refused() -> None:
    asked = Asked()
    batches = Batches(asked, alone=VaultRefusedError)

    async def refused() -> ReferenceType[asyncio.Event]:
        held = asyncio.Event()
        try:
            await batches.ask(-2)
        except VaultRefusedError:
            return ref(held)
        raise AssertionError("it was answered")

    first = asyncio.create_task(batches.ask(0))
    await asked.begun.wait()
    asking = asyncio.create_task(refused())
    await asyncio.sleep(0)
    asked.may_answer.set()
    assert (await asking)() is None
    assert await first == 0


async def test_both_are_done_at_the_same_time() -> None:
    begun = asyncio.Event()

    async def second() -> str:
        begun.set()
        return "b"

    assert await both(begun.wait(), second()) == (True, "b")


TOGETHER: list[Callable[..., Awaitable[object]]] = [
    both,
    lambda fails, other: both(other, fails),
    lambda *work: for_each(work, lambda one: one, at_once=2),
]


@pytest.mark.parametrize("together", TOGETHER)
async def test_an_error_of_one_cancels_the_other(together: Callable[..., Awaitable[object]]) -> None:
    ended = asyncio.Event()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise VaultDeniedError

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.timeout(5):
        with pytest.raises(VaultDeniedError):
            await together(fail(), wait())
    assert ended.is_set()


@pytest.mark.usefixtures("no_garbage_collector")
@pytest.mark.parametrize("together", [*TOGETHER, side_by_side])
async def test_what_a_failed_one_held_is_freed_at_once(together: Callable[..., Awaitable[object]]) -> None:
    async def fail(held: asyncio.Event) -> None:
        await asyncio.sleep(0)
        raise VaultDeniedError(str(held))

    async def failed() -> ReferenceType[asyncio.Event]:
        held = asyncio.Event()
        try:
            await together(fail(held), asyncio.sleep(0.01))
        except VaultDeniedError:
            return ref(held)
        raise AssertionError("it did not fail")

    left = await failed()
    await asyncio.sleep(0)  # until then the loop may hold the error
    assert left() is None


async def test_what_failed_is_repeated_soon_and_what_worked_after_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()

    async def sweep() -> None:
        if len(pauses) < 2:
            raise StintError

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(waiting, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        await waiting.repeat(sweep, lambda: 3600, failed="sweep failed")
    assert [round(pause / longest) for pause, longest in zip(pauses, (5, 5, 3600), strict=True)] == [1, 1, 1]
