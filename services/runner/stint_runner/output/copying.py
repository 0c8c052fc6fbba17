"""Copies a running container's output into the log: decides where to read it, and when to stop."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

import structlog

from stint.core.errors import BrokerUnavailableError, EngineError, EngineUnavailableError, LogGapError, StintError
from stint_runner.engine.port import Engine, OutputPiece
from stint_runner.output.pieces import FellBehindError
from stint_runner.output.pump import OutputPump
from stint_runner.retry import retry

log = structlog.get_logger()

OUTPUT_END: Final = 30.0  # seconds after a container's exit, and after each further chunk, for the next chunk to arrive
AGAIN: Final = (EngineUnavailableError, BrokerUnavailableError, LogGapError, FellBehindError)


@dataclass(eq=False)
class Copying:
    """Copies one container's output from now on. Call `finish` or `give_up` once, and `aclose` in any case."""

    engine: Engine
    pump: OutputPump
    container_id: str
    attached: AsyncGenerator[OutputPiece, None] | None  # is read first, if it is given
    concealed: bool = False  # its output must not be stored

    def __post_init__(self) -> None:
        self._task = asyncio.create_task(self._copy())

    async def _copy(self) -> None:
        if self.concealed:
            raise EngineError("Its secret values are not known any more.")
        await retry(self._copy_some, on=AGAIN)

    async def _copy_some(self) -> None:
        """What is attached comes first. Later the engine's log is read, which begins with the first byte again."""
        pieces, self.attached = self.attached, None
        if pieces:
            await self.pump.copy(pieces, attached=True)
        else:
            await self.pump.resume()
            await self.pump.copy(self.engine.output(self.container_id))

    async def finish(self, killed: asyncio.Event) -> None:
        """Wait for the rest of the output as long as more arrives, or NATS holds it up.

        For a `killed` job wait only for `OUTPUT_END`.
        """
        seen = -1
        while not self._task.done() and (self.pump.held_up or self.pump.chain.chunks != seen):
            seen = self.pump.chain.chunks
            await asyncio.wait({self._task}, timeout=OUTPUT_END)
            if killed.is_set():
                break
        if not self._task.done() or self._task.exception():
            await self.give_up()

    async def give_up(self) -> None:
        """Store what has arrived. The task is not cancelled: a chunk or a search for secrets may be under way."""
        self.pump.break_off()
        await asyncio.wait({self._task})
        if fault := self._task.exception():
            log.warning("output incomplete", error=type(fault).__name__)
            try:
                await self.pump.flush(broken=True)
            except StintError as error:  # how the job ended is known all the same
                log.warning("end of the output not stored", error=error.sentence)

    async def aclose(self) -> None:
        """Stop at once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
