"""A running container's output on its way into the log: from where it comes, and when it is given up."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError, EngineError, EngineUnavailableError, LogGapError
from stint_runner.engine.port import Engine, OutputPiece
from stint_runner.output.pieces import FellBehindError
from stint_runner.output.pump import OutputPump
from stint_runner.retry import attempts

log = structlog.get_logger()

OUTPUT_END: Final = 30.0
"""Seconds after a container's exit in which at least one more chunk of its output must have come."""
AGAIN: Final = (EngineUnavailableError, BrokerUnavailableError, LogGapError, FellBehindError)


class Copying:
    """Copies one container's output from now on. `finish` or `give_up` once, and `aclose` in any case."""

    def __init__(
        self,
        engine: Engine,
        pump: OutputPump,
        container_id: str,
        attached: AsyncGenerator[OutputPiece, None] | None,
        *,
        concealed: bool = False,
    ) -> None:
        """`attached` is the output if it was attached to; `concealed` output must not be seen by anybody."""
        self._engine = engine
        self._pump = pump
        self._container_id = container_id
        self._task = asyncio.create_task(self._copy(attached, concealed=concealed))

    async def _copy(self, attached: AsyncGenerator[OutputPiece, None] | None, *, concealed: bool) -> None:
        if concealed:
            raise EngineError("Its secret values are not known any more.")
        async for attempt in attempts(on=AGAIN):
            with attempt:
                pieces, attached = attached, None
                await (self._pump.copy(pieces, attached=True) if pieces else self._copy_log())

    async def _copy_log(self) -> None:
        """Go on behind what is stored: the engine gives it again from its beginning."""
        await self._pump.resume()
        await self._pump.copy(self._engine.output(self._container_id))

    async def finish(self) -> None:
        """Wait for the rest of the output after the container's exit, if the engine still gives it."""
        seen = -1
        while not self._task.done() and self._pump.chunks != seen:
            seen = self._pump.chunks
            await asyncio.wait({self._task}, timeout=OUTPUT_END)
        if not self._task.done() or self._task.exception():
            await self.give_up()

    async def give_up(self) -> None:
        """Store what has come. The task is not cancelled: a chunk, or a search for secrets, may be under way."""
        self._pump.break_off()
        await asyncio.wait({self._task})
        if fault := self._task.exception():
            log.warning("output incomplete", error=type(fault).__name__)
            await self._pump.flush(broken=True)

    async def aclose(self) -> None:
        """Stop at once, whatever is under way."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
