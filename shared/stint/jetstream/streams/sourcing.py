"""How WORK takes the submissions from EVENTS, and a monitor that has NATS connect the two again."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import structlog

from stint.core.names.streams import EVENTS, WORK
from stint.core.names.subjects import event_filter, work_subject
from stint.jetstream.streams.stream import Stream
from stint.jetstream.wire.broker import Broker
from stint.jetstream.wire.protocol import NANOSECONDS, ErrorCode, check, error_code
from stint.process.waiting import repeat

log = structlog.get_logger()

SILENCE: Final = 5.0  # seconds without a message from EVENTS until WORK may lag. There is a heartbeat every second
CHECK_INTERVAL: Final = 3.0  # seconds between two checks of the sourcing

MOST_WAITING: Final = 5_000
"""Messages in WORK with which it is connected again: NATS looks through all of them, and everything that concerns WORK
waits meanwhile. 2 ms with 1,000 messages, 0.7 s with 5,000, 15 s with 200,000. With more, queues have work anyway."""

_WHOLE: Final = 10_000  # characters: more than any queue's token has
_AGAIN: Final = re.compile(re.escape(work_subject("{{left(2,")) + r"(\d+)\)}}")


def source(times: int = 0, start: int = 0) -> dict[str, Any]:
    """The settings of WORK's source, written in another way each time that it was connected again.

    To NATS a source is another one when its transform is written differently: here as the first so many characters of
    the queue's token, which are the whole token. NATS begins at `start` while WORK has had nothing from this source.
    """
    token = f"{{{{left(2,{_WHOLE + times})}}}}" if times else "{{wildcard(2)}}"
    transform = {"src": event_filter("submitted"), "dest": work_subject(token)}
    return {"name": EVENTS, "subject_transforms": [transform]} | ({"opt_start_seq": start} if start else {})


def as_declared(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stream's settings, with WORK's source as it was before it was ever connected again."""
    sources = config.get("sources", ())
    return {**config, "sources": [found if _times(found) is None else source() for found in sources]}


def _times(found: Mapping[str, Any]) -> int | None:
    """How often this source was connected again. None if it is not ours."""
    transform, *_ = found.get("subject_transforms") or [{}]
    again = _AGAIN.fullmatch(transform.get("dest", ""))
    times = int(again[1]) - _WHOLE if again else 0
    return times if found == source(times, found.get("opt_start_seq", 0)) else None


def _next(work: Mapping[str, Any]) -> int:
    """The first sequence of EVENTS that WORK has not received, 0 if that is not known.

    NATS says which one was the last once it has received one from this source. Until then the settings say it.
    """
    if heard := int(_heard(work).get("seq", 0)):
        return heard + 1
    return int(work["config"]["sources"][0].get("opt_start_seq", 0))


def _heard(work: Mapping[str, Any]) -> Mapping[str, Any]:
    """What NATS says of the source. Nothing if no server leads WORK, as while a cluster starts."""
    return next(iter(work.get("sources", ())), {})


def silence(work: Mapping[str, Any]) -> float:
    """Seconds since WORK heard from EVENTS, by its STREAM.INFO. Infinite if its leader has heard nothing yet."""
    times = [int(heard["active"]) for heard in work.get("sources", ())]
    return max((time / NANOSECONDS if time >= 0 else math.inf for time in times), default=math.inf)


class Sourcing:
    """Has NATS connect WORK with EVENTS again if it receives nothing.

    After an attempt that failed NATS tries again after 10 s, then 20 s, and so on to two minutes
    (`calculateRetryBackoff` in the server's `stream.go`). A new leader tries at once, and so does a single server with
    a new source: see `docs/adr/0037-work-is-connected-again.md`.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._silent, self._short = "", False
        self._created = ""  # when the EVENTS was made that WORK receives
        self._settings: Mapping[str, Any] = {}  # of its source, as the last check found them
        self._sources = 1
        self._unanswered: dict[str, Any] | None = None

    async def run(self) -> None:
        async def while_connected() -> None:
            self._silent, self._short = "", False
            await repeat(self.check, lambda: CHECK_INTERVAL, failed="check of the work queues' filling failed")

        await self._broker.anew(while_connected)

    async def check(self) -> None:
        """Have it connected again if it failed, or was silent at the last two checks, and EVENTS has a leader.

        It begins anew if EVENTS was made anew since the first check, or ends before what WORK has received: it was
        restored from a backup, or lost and made anew. WORK would wait until it is as long again. In a cluster that must
        be so at the last two checks: a server that was frozen may believe for a moment that it still leads EVENTS, and
        does not know what came since.
        """
        found = await self._found()
        if not self._has_one_source(found):
            return
        cluster = found.get("cluster") or {}
        several = bool(cluster.get("replicas"))
        events = await Stream(self._broker, EVENTS).state()  # only its leader answers
        anew = self._is_another(events.created, found["config"]["sources"][0])
        short_before, self._short = self._short, anew or events.last + 1 < _next(found)
        if self._short and (short_before or not several):
            log.warning("EVENTS was made anew, or ends before what WORK has received", last=events.last)
            await self._replace(found, start=1)
            self._created = events.created
            return
        silent = cluster.get("leader", "the only server") if silence(found) >= SILENCE else ""
        before, self._silent = self._silent, silent
        failed = not several and "error" in _heard(found)
        if silent and (failed or silent == before):
            self._silent = ""
            await (self._ask_for_another_leader(silent) if several else self._connect(found))

    def _is_another(self, created: str, settings: Mapping[str, Any]) -> bool:
        """Whether EVENTS was made anew, and no other projector has had WORK begin anew since."""
        before, self._settings = self._settings, settings
        if settings != before and settings.get("opt_start_seq") == 1:
            self._created = created
        self._created = self._created or created
        return created != self._created

    def _has_one_source(self, found: Mapping[str, Any]) -> bool:
        """Whether WORK's settings have the one source that is watched here. Logs it if their number has changed."""
        before, self._sources = self._sources, len(found["config"].get("sources", ()))
        if self._sources != before:
            say = log.info if self._sources == 1 else log.warning
            say("the number of WORK's sources has changed, it needs one", sources=self._sources)
        return self._sources == 1

    async def _found(self) -> dict[str, Any]:
        """What NATS says of WORK. If NATS was killed while it wrote WORK's settings, it has not restored the stream.

        Its messages are still there, and belong to a stream of that name that is created.
        """
        info = f"STREAM.INFO.{WORK}"
        answer = await self._broker.api(info)
        if self._unanswered and error_code(answer) == ErrorCode.STREAM_NOT_FOUND:
            check(await self._broker.api(f"STREAM.CREATE.{WORK}", self._unanswered))
            log.warning("NATS was killed while it connected WORK again, and did not restore it: created it")
            answer = await self._broker.api(info)
        found = check(answer)
        self._unanswered = None
        return found

    async def _ask_for_another_leader(self, leader: str) -> None:
        check(await self._broker.api(f"STREAM.LEADER.STEPDOWN.{WORK}"))
        log.info("the leader of WORK receives nothing from EVENTS, asked it to step down", leader=leader)

    async def _connect(self, found: Mapping[str, Any]) -> None:
        """Begin behind the last submission that WORK has received."""
        if (start := _next(found)) and found["state"]["messages"] <= MOST_WAITING:
            await self._replace(found, start)

    async def _replace(self, found: Mapping[str, Any], start: int) -> None:
        """Replace the source in one step, so that there is always one."""
        times = _times(found["config"]["sources"][0])
        if times is None:
            return
        self._unanswered = {**found["config"], "sources": [source(times + 1, start)]}
        check(await self._broker.api(f"STREAM.UPDATE.{WORK}", self._unanswered))
        self._unanswered = None
        log.info("connected WORK with EVENTS again", start=start)
