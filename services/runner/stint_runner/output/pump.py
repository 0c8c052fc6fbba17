"""From a container's output to numbered, chained chunks in the log, masked and cut at the limit."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Final

from stint.core.errors import BrokerUnavailableError, EngineUnavailableError, LogRotatedError, StintError
from stint.core.output.chain import Chain, Chunk
from stint.core.output.lines import Lines
from stint.ports import OutputLog
from stint.process.waiting import InterruptedByEventError, interrupted_by
from stint_runner.engine.port import OutputPiece
from stint_runner.output.pieces import CHUNK_BYTES, PIECES_WAITING, PieceQueue, gathered, put
from stint_runner.output.redact import Needles, Redactor, spellings
from stint_runner.retry import retry

BEHIND: Final = 1.0  # seconds for which an attached container may be blocked because its output cannot be stored
BYTES_A_CHUNK: Final = 64
"""A limit allows one chunk for so many of its bytes, and 1000 more: a chunk takes 300 bytes in NATS besides its own."""


class BrokenOffError(StintError):
    """Reading of the output was stopped."""


class OutputPump:
    """Copies one container's output into the log as it comes.

    While one chunk is on its way to the log the next one gathers, so that a slow trickle arrives at once and a flood
    in full chunks.

    Up to `limit` bytes are kept, after masking, in no more chunks than `BYTES_A_CHUNK` allows; 0 keeps all.
    """

    def __init__(self, log: OutputLog, token: str, job_id: str, *, limit: int = 0) -> None:
        self.chain = Chain()  # of what is stored
        # There was more than the limit. The last chunk is a line that says so, and counts in the chain's size.
        self.truncated = False
        # Some of it may be missing: after a resumption the engine's log did not begin with what is stored, the log may
        # have rotated, or the engine was interrupted.
        self.gap = False
        # NATS is waited for: a chunk is on its way to the log, or what is stored is read, as over a slow link.
        self.held_up = False
        self._log = log
        self._place = (token, job_id)
        self._limit = limit
        self._most = limit // BYTES_A_CHUNK + 1000
        self._sequence = 0
        self._lines = Lines()
        self._needles: Needles | None = None
        self._redactors: dict[str, Redactor] = {}
        self._replays: dict[str, _Replay] = {}
        self._stored: dict[str, _Replay] = {}  # all that is stored, by stream
        self._broken_off = asyncio.Event()
        self._whole = False

    @property
    def complete(self) -> bool:
        """Whether everything that the container wrote is stored, up to the limit. True only where that is proven."""
        return self._whole and not self.gap

    @property
    def masked(self) -> int:
        """How many occurrences of secret values were replaced."""
        return sum(redactor.count for redactor in self._redactors.values())

    def mask(self, values: Iterable[Any]) -> None:
        """Replace what `spellings` finds in these JSON values. Call it before `copy`."""
        self._needles = Needles(spellings(values))

    async def resume(self) -> None:
        """Continue after what is stored. The pieces of the next `copy` must begin at the container's first byte again.

        What this pump has stored itself is not read: on a slow link leases would be renewed behind that.

        Raises:
            BrokerUnavailableError: what is stored cannot be read to its end.
        """
        self.held_up = True  # also between two attempts: it fails only while NATS is away
        last = await self._log.last(*self._place)
        if last is None or (last.sequence, last.digest) != (self._sequence, self.chain.digest):
            await self._read_stored(last)
        self._redactors.clear()
        self._replays = {stream: stored.copy() for stream, stored in self._stored.items()}
        self.truncated = self._is_beyond()
        self.held_up = False

    async def _read_stored(self, last: Chunk | None) -> None:
        stored: dict[str, _Replay] = {}
        chain, sequence, lines = Chain(), 0, Lines()
        async for chunk in self._log.read(*self._place):
            sequence = chunk.sequence
            if chunk.number:  # otherwise it is a stranger's
                stored.setdefault(chunk.stream, _Replay()).expect(chunk.data)
                lines.add(chunk.stream, chunk.data)
                chain = Chain(chunk.number, chain.size + len(chunk.data), chunk.digest)
        if last is not None and sequence < last.sequence:
            raise BrokerUnavailableError("A replica of NATS lags behind.")
        self._stored, self.chain, self._sequence, self._lines = stored, chain, sequence, lines

    async def copy(self, pieces: AsyncIterator[OutputPiece], *, attached: bool = False) -> None:
        """Store everything up to the limit. Returns when the output has ended, or exceeded the limit and was closed.

        The pieces are the output from its first byte on, as far as the engine still has it. If `attached`, they come
        from `Engine.attach`: they begin with the first byte, and block a slowly read job.

        Raises:
            StintError: the output broke off. What had arrived is stored, except for what `flush` would return.
            LogGapError: another writer stored output of this job.
            FellBehindError: nothing could be stored for too long. Continue with `resume` and the engine's log.
        """
        if self._is_beyond():  # it was truncated before this was resumed
            return
        waiting: PieceQueue = asyncio.Queue(PIECES_WAITING)
        reading = asyncio.create_task(self._read(pieces, waiting, BEHIND if attached else None))
        try:
            async with aclosing(gathered(waiting)) as chunks:
                async for stream, data in chunks:
                    await self._keep(stream, await self._redacted(stream, data))
                    if self.truncated:
                        self._whole = attached
                        return
            fault = await reading
            if fault and not isinstance(fault, LogRotatedError):
                raise fault
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await self.flush()
        self.gap = self.gap or bool(self._replays)
        self._whole = True

    def break_off(self) -> None:
        """Let `copy` read no more: it stores what has arrived, and raises `BrokenOffError`."""
        self._broken_off.set()

    async def _read(
        self, pieces: AsyncIterator[OutputPiece], waiting: PieceQueue, patience: float | None
    ) -> Exception | None:
        """Read to the end, and return what broke it off."""
        fault: Exception | None = None
        try:
            async with interrupted_by(self._broken_off):
                async for piece in pieces:
                    await put(waiting, piece, patience)
        except InterruptedByEventError:
            fault = BrokenOffError()
        except Exception as error:  # noqa: BLE001 - whoever reads the queue raises it
            self.gap = self.gap or isinstance(error, EngineUnavailableError | LogRotatedError)
            # An engine that is away can refuse before it could be interrupted, and must not be asked again then.
            fault = BrokenOffError() if self._broken_off.is_set() else error
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        await waiting.put(None)
        return fault

    async def flush(self, *, broken: bool = False) -> None:
        """Store what was held back for a secret that may begin there, masked if the output broke off. Call it last."""
        for stream, redactor in self._redactors.items():
            await self._keep(stream, redactor.flush(broken=broken))

    async def _redacted(self, stream: str, data: bytes) -> bytes:
        if not self._needles:
            return data
        redactor = self._redactors.setdefault(stream, Redactor(self._needles))
        # In a thread: many values, or values in an output made to be slow to search, must not hold up other jobs.
        return await asyncio.to_thread(redactor.feed, data)

    async def _keep(self, stream: str, data: bytes) -> None:
        """Store what is within the limit, in chunks that fit into a message however much had been held back."""
        data = self._unseen(stream, data)
        if self.truncated or not data:
            return
        room = len(data)
        if self._limit:
            room = min(self._limit - self.chain.size, (self._most - self.chain.chunks) * 2 * CHUNK_BYTES)
        kept = data[:room]
        for start in range(0, len(kept), 2 * CHUNK_BYTES):
            await self._store(stream, kept[start : start + 2 * CHUNK_BYTES])
        if len(data) > room:
            self.truncated = True
            await self._store(stream, b"\n[output truncated at %d bytes]\n" % self.chain.size)

    def _is_beyond(self) -> bool:
        """Whether what is stored ends in the line that says that it was truncated."""
        return self._limit > 0 and (self.chain.size > self._limit or self.chain.chunks > self._most)

    def _unseen(self, stream: str, data: bytes) -> bytes:
        replay = self._replays.get(stream)
        if replay is None:
            return data
        rest = replay.skip(data)
        if not replay.left:
            self.gap = self.gap or not replay.agrees
            del self._replays[stream]
        return rest

    async def _store(self, stream: str, data: bytes) -> None:
        begun, chain = self._lines.next(stream), self.chain.add(data)
        chunk = Chunk(
            number=chain.chunks,
            offset=self.chain.size,
            stream=stream,
            digest=chain.digest,
            data=data,
            line=begun.line,
            continues=begun.continues,
        )
        # For as long as it takes: if that is too long the lease ends the job.
        self.held_up = True
        try:
            self._sequence = await retry(
                lambda: self._log.append(*self._place, chunk, after=self._sequence), on=BrokerUnavailableError
            )
        finally:
            self.held_up = False
        self.chain = chain
        self._lines.add(stream, data)
        self._stored.setdefault(stream, _Replay()).expect(data)


class _Replay:
    """One stream's output that is stored already, and that the engine sends again: `left` bytes of it are to come."""

    def __init__(self) -> None:
        self.left = 0
        self._stored = hashlib.sha256()
        self._come = hashlib.sha256()

    def expect(self, data: bytes) -> None:
        """Add bytes that are stored."""
        self._stored.update(data)
        self.left += len(data)

    def copy(self) -> "_Replay":
        """One of the same bytes, of which none has come."""
        replay = _Replay()
        replay.left, replay._stored = self.left, self._stored.copy()
        return replay

    def skip(self, data: bytes) -> bytes:
        """The part of the next bytes that is not stored."""
        known = data[: self.left]
        self._come.update(known)
        self.left -= len(known)
        return data[len(known) :]

    @property
    def agrees(self) -> bool:
        """Whether the bytes that arrived equal those that are stored."""
        return self._come.digest() == self._stored.digest()
