"""Evidence of a run that went as it should, for the checker's tests to spoil."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec

from stint.core.codec import encode
from stint.core.events import AnyEvent, Deleted, Record
from stint.core.job import fold
from stint.core.names.ids import queue_token
from stint.core.output.chain import Chain, Chunk
from stint.core.view import view
from tests.chaos.checker import check
from tests.chaos.evidence import Answer, Evidence, Sight, Submission
from tests.support import events
from tests.support.outputs import chained

START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


class Run:
    """A run that goes as it should, a step at a time; each fact a second after the one before."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.truth: dict[str, list[Sight]] = defaultdict(list)
        self.records: list[Record] = []
        self.output: dict[str, list[Chunk]] = {}
        self.extra: dict[str, Any] = {}
        self.seconds = 0.0
        self._numbers = count(1)

    def fact(self, job_id: str, event: AnyEvent, queue: str = "deploys") -> Record:
        self.seconds += 1
        time = (START + timedelta(seconds=self.seconds)).isoformat().replace("+00:00", "Z")
        made = events.record(event, len(self.records) + 1, token=queue_token(queue), job_id=job_id)
        self.records.append(msgspec.structs.replace(made, time=time))
        return self.records[-1]

    def sees(self, key: str, *whats: str, process: str = "", queue: str = "deploys") -> None:
        self.truth[queue] += [Sight(key, what, process or f"{key}.1") for what in whats]

    def submit(self, queue: str = "deploys", answer: Answer = Answer.TAKEN, lines: int = 6) -> Submission:
        number = next(self._numbers)
        job_id = f"{number:024x}"
        item = Submission(key=f"k{number}", queue=queue, job_id=job_id, answer=answer, lines=lines)
        self.submissions.append(item)
        self.fact(job_id, events.submitted(queue), queue)
        return item

    def start(self, item: Submission) -> None:
        self.fact(item.job_id, events.started(), item.queue)
        self.fact(item.job_id, events.launched(), item.queue)
        self.sees(item.key, "begin", "tick", queue=item.queue)

    def end(self, item: Submission) -> None:
        self.sees(item.key, "tick", "end", queue=item.queue)
        chain, chunks = Chain(), list[Chunk]()
        for stream in ("stdout", "stderr"):
            chain, chunk = chained(chain, item.output(stream), stream, sequence=next(self._numbers))
            chunks.append(chunk)
        self.output[item.job_id] = chunks
        counted: dict[str, Any] = {"chunks": chain.chunks, "output_bytes": chain.size, "output_digest": chain.digest}
        self.fact(item.job_id, msgspec.structs.replace(events.ended(), **counted), item.queue)

    def whole(self, queue: str = "deploys") -> Submission:
        item = self.submit(queue)
        self.start(item)
        self.end(item)
        return item

    def change(self, item: Submission, **fields: Any) -> None:
        """What is known of a submission."""
        self.submissions[self.submissions.index(item)] = msgspec.structs.replace(item, **fields)

    def views(self, without: str = "") -> dict[str, bytes]:
        ids = dict.fromkeys(record.job_id for record in self.records if record.job_id != without)
        jobs = [fold(record for record in self.records if record.job_id == job_id) for job_id in ids]
        return {job.job_id: encode(view(job)) for job in jobs if job and Deleted.kind not in job.facts}

    def evidence(self) -> Evidence:
        fields: dict[str, Any] = {"views": self.views(), "rebuilt": self.views()}
        fields |= {"submissions": self.submissions, "truth": self.truth}
        fields |= {"records": self.records, "output": self.output, **self.extra}
        return Evidence(**fields)

    def found(self) -> set[tuple[str, str]]:
        return {(violation.invariant, violation.subject) for violation in check(self.evidence())}


def good() -> Run:
    """Three queues' worth of all that may happen."""
    run = Run()
    first, second = run.submit(), run.submit()
    run.start(first)
    run.whole("other")
    run.end(first)
    run.start(second)
    run.end(second)
    killed, gone, never = run.submit("kills"), run.submit("kills"), run.submit("kills", Answer.UNKNOWN)
    run.fact(killed.job_id, events.kill_requested(), "kills")
    run.fact(killed.job_id, events.ended("failed", "killed"), "kills")
    run.fact(gone.job_id, events.deleted(), "kills")
    run.start(never)
    run.fact(never.job_id, events.ended("unknown", "lost"), "kills")
    unheard = Submission(key="k?", queue="other", job_id="", answer=Answer.UNKNOWN)
    run.submissions.append(unheard)
    return run
