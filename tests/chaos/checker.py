"""The invariants, one function each: evidence in, violations out. Nothing here asks a server anything.

I1 no two jobs of a queue overlap. I2 every acknowledged submission has exactly one end, and nothing else turns up.
I3 no command ran twice. I4 the jobs of a queue start in the stream's order. I5 view, fold and rebuilt view are the
same bytes. I6 the output of jobs that ended normally is whole. I7 nothing is left behind. I8 everything ends in time.
I9 every fact is legal, and nothing runs that should not.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Final

from stint.core.codec import encode
from stint.core.events import Deleted, Ended, KillRequested, Record, Rejected, Started, Submitted
from stint.core.job import Job, State, evolve
from stint.core.view import parse_time, view
from tests.chaos.check_output import output_faults
from tests.chaos.check_time import liveness_faults
from tests.chaos.evidence import Answer, Evidence, Sight, Submission, Violation

BEHIND: Final = timedelta(seconds=2)
"""How long a leader may be storing an event that it does not count yet. Seen: milliseconds."""
ENDS: Final = frozenset({Ended.kind, Rejected.kind, Deleted.kind})


@dataclass(frozen=True)
class Case:
    """The evidence, and what several invariants need of it. `illegal` are the facts that moved nothing."""

    evidence: Evidence
    jobs: Mapping[str, Job]
    illegal: Sequence[Record]
    by_key: Mapping[str, Submission]
    by_id: Mapping[str, Submission]


def check(evidence: Evidence) -> list[Violation]:
    """All violations, each once."""
    case = _case(evidence)
    found: set[Violation] = set()
    for invariant in (_overlap, _one_end, _ran_once, _order, _views, _output, _left, _legal):
        found.update(invariant(case))
    return sorted(found.union(liveness_faults(case.jobs, evidence)))


def _case(evidence: Evidence) -> Case:
    jobs: dict[str, Job] = {}
    illegal: list[Record] = []
    for record in evidence.records:
        before = jobs.get(record.job_id)
        after = evolve(before, record)
        if after is None or after.facts.get(record.kind) is not record:
            illegal.append(record)
        if after is not None:
            jobs[record.job_id] = after
    by_key = {item.key: item for item in evidence.submissions}
    return Case(evidence, jobs, illegal, by_key, {item.job_id: item for item in evidence.submissions if item.job_id})


def _overlap(case: Case) -> Iterator[Violation]:
    for queue, sights in case.evidence.truth.items():
        for sight in _intruders(sights):
            yield Violation("I1", sight.key, f"It overlapped another job of {queue}.")
    yield from _overlap_in_log(case)


def _intruders(sights: Iterable[Sight]) -> Iterator[Sight]:
    """Who found the lock taken, and who still moved after another one had begun."""
    begun: dict[str, int] = {}
    newest = 0
    for sight in sights:
        if sight.what == "begin":
            newest += 1
            begun[sight.process] = newest
        elif sight.what == "overlap" or begun.get(sight.process, newest) < newest:
            yield sight


def _overlap_in_log(case: Case) -> Iterator[Violation]:
    """By the log alone: one job of a queue was started while the one before had no end."""
    running: dict[str, str] = {}
    for record in case.evidence.records:
        job = case.jobs.get(record.job_id)
        if job is None or job.facts.get(record.kind) is not record:
            continue
        if record.kind == Started.kind:
            if other := running.get(record.token):
                yield Violation("I1", record.job_id, f"It was started while {other} had not ended.")
            running[record.token] = record.job_id
        elif record.kind in ENDS and running.get(record.token) == record.job_id:
            del running[record.token]


def _ran_once(case: Case) -> Iterator[Violation]:
    sights = (sight for sights in case.evidence.truth.values() for sight in sights)
    begun = Counter(sight.key for sight in sights if sight.what == "begin")
    for key, times in begun.items():
        if times > 1:
            yield Violation("I3", key, f"Its command ran {times} times.")


def _order(case: Case) -> Iterator[Violation]:
    queues: dict[str, list[Job]] = defaultdict(list)
    for job in case.jobs.values():
        if Started.kind in job.facts:
            queues[job.token].append(job)
    for jobs in queues.values():
        jobs.sort(key=lambda job: job.facts[Submitted.kind].sequence)
        for first, second in pairwise(jobs):
            if second.facts[Started.kind].sequence < first.facts[Started.kind].sequence:
                yield Violation("I4", second.job_id, f"It was started before {first.job_id}, submitted before it.")
    yield from _order_of_runs(case)


def _order_of_runs(case: Case) -> Iterator[Violation]:
    for sights in case.evidence.truth.values():
        keys = [sight.key for sight in sights if sight.what == "begin" and sight.key in case.by_key]
        known = [(job, key) for key in dict.fromkeys(keys) if (job := case.jobs.get(case.by_key[key].job_id))]
        for (first, key), (second, _) in pairwise(known):
            if second.facts[Submitted.kind].sequence < first.facts[Submitted.kind].sequence:
                yield Violation("I4", key, f"It ran before {second.job_id}, which was submitted before it.")


def _one_end(case: Case) -> Iterator[Violation]:
    ends = Counter(record.job_id for record in case.evidence.records if record.kind in {Ended.kind, Rejected.kind})
    for item in case.evidence.submissions:
        if item.answer is not Answer.TAKEN:
            continue
        job = case.jobs.get(item.job_id)
        if job is None:
            yield Violation("I2", item.job_id or item.key, "It was acknowledged, and is not in the log.")
        elif not job.terminal:
            yield Violation("I2", item.job_id, f"It was acknowledged, and is still {job.state}.")
        elif ends[item.job_id] > 1 or (not ends[item.job_id] and job.state is not State.DELETED):
            yield Violation("I2", item.job_id, f"It has {ends[item.job_id]} ends.")
        elif _is_blamed(job):
            yield Violation("I2", item.job_id, "It ended for what was submitted, and nothing was wrong with that.")
    yield from _ghosts(case)


def _is_blamed(job: Job) -> bool:
    """Whether its end says that its submission is wrong, or its payload."""
    ended = job.fact(Ended)
    return Rejected.kind in job.facts or (ended is not None and ended.reason == "payload")


def _ghosts(case: Case) -> Iterator[Violation]:
    """Jobs in the log that nobody sent, or that were refused. Where no answer came, the id may never have been told."""
    unknown = [item for item in case.evidence.submissions if item.answer is Answer.UNKNOWN]
    nameless = Counter(item.token for item in unknown if not item.job_id)
    for job in case.jobs.values():
        item = case.by_id.get(job.job_id)
        if item is not None and item.answer is Answer.REFUSED:
            yield Violation("I2", job.job_id, "It was refused, and is in the log.")
        elif item is None:
            nameless[job.token] -= 1
            if nameless[job.token] < 0:
                yield Violation("I2", job.job_id, "Nobody submitted it.")


def _legal(case: Case) -> Iterator[Violation]:
    for record in case.illegal:
        if case.evidence.servers > 1 and _came_with_the_end(case, record):
            continue
        yield Violation("I9", record.job_id, f"Its {record.kind} at {record.sequence} is not legal there.")
    ran = {sight.key for sights in case.evidence.truth.values() for sight in sights}
    for key in ran:
        item = case.by_key.get(key)
        if item is None:
            yield Violation("I9", key, "It ran, and nobody submitted it.")
        elif item.job_id and (fault := _should_not_run(case.jobs.get(item.job_id))):
            yield Violation("I9", item.job_id, fault)


def _came_with_the_end(case: Case, record: Record) -> bool:
    """Whether it is a kill that was stored right behind the job's end: it changes nothing."""
    job = case.jobs.get(record.job_id)
    ended = job and job.facts.get(Ended.kind)
    if record.kind != KillRequested.kind or not ended:
        return False
    return timedelta() <= parse_time(record.time) - parse_time(ended.time) < BEHIND


def _should_not_run(job: Job | None) -> str:
    if job is None:
        return "It ran, and is not in the log."
    if Started.kind in job.facts:
        return ""
    return "It ran, and was deleted before." if Deleted.kind in job.facts else "It ran, and nobody had claimed it."


def _views(case: Case) -> Iterator[Violation]:
    wanted = {job_id: encode(view(job)) for job_id, job in case.jobs.items() if job.state is not State.DELETED}
    for name, views in (("view", case.evidence.views), ("rebuilt view", case.evidence.rebuilt)):
        for job_id in wanted.keys() | views.keys():
            if wanted.get(job_id) != views.get(job_id):
                wrong = "missing" if job_id not in views else "too much" if job_id not in wanted else "another"
                yield Violation("I5", job_id, f"The {name} of it is not what its facts say: it is {wrong}.")


def _output(case: Case) -> Iterator[Violation]:
    for job in case.jobs.values():
        if job.state is State.DELETED:
            continue
        chunks = case.evidence.output.get(job.job_id, ())
        for fault in output_faults(job, case.by_id.get(job.job_id), chunks):
            yield Violation("I6", job.job_id, fault)


def _left(case: Case) -> Iterator[Violation]:
    for kind, name in case.evidence.left:
        if kind != "payload" or not _is_orphan(case, name):
            yield Violation("I7", name, f"This {kind} was left behind.")


def _is_orphan(case: Case, subject: str) -> bool:
    """Whether its API, or NATS, died before the submission was appended. The janitor removes it an hour later.

    Also one of a submission that was refused: NATS stored it, and did not say so in time.
    """
    _, token, job_id, _ = subject.split(".", 3)
    others = [item for item in case.evidence.submissions if item.answer is not Answer.TAKEN]
    cut_off = any(item.job_id == job_id or (not item.job_id and item.token == token) for item in others)
    return cut_off and job_id not in case.jobs
