"""Values that nobody means, in each field of what others may write: who reads it survives, and shows the rest.

The fields are those of the structs, so that a new one is tried as well.
"""

# ruff: noqa: SLF001 - what draws a view of the page needs no services for that

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
import pytest

from stint.cli.fleet import events, queues
from stint.cli.jobs import ls
from stint.cli.jobs.history import timeline
from stint.cli.show.form import Column, table
from stint.client.fleet import JobChange, QueueInfo, RunnerInfo
from stint.client.rest.connection import parsed
from stint.client.results import Fact, JobInfo, JobResult, read
from stint.core.audit.operations import OPERATIONS, to_operation
from stint.core.audit.receipt import KeyName, canonical, document, statement
from stint.core.audit.signature import KeyOwner
from stint.core.audit.trail import asked, operated
from stint.core.codec import decode, encode, to_record
from stint.core.errors import UndecodableError
from stint.core.events import EVENT_TYPES, Record
from stint.core.job import Job, fold
from stint.core.names.subjects import EventAddress
from stint.core.output.chain import Chain
from stint.core.pause import Pause, read_pause
from stint.core.phase import JobPhase
from stint.core.schema import examples
from stint.core.view import NEVER, JobView, read_view, view
from stint.ports import StoredView
from stint_api.audit.secrets import WantedSecret
from stint_api.audit.table import AuditTable, WantedEntries
from stint_api.page.drawn import fleet, words
from stint_api.page.drawn import job as drawn_job
from stint_api.page.drawn.jobs import row as drawn_row
from stint_api.read.job.live import fact
from stint_api.read.listing.query import Page, Wanted
from stint_api.read.listing.queue_rows import QueueRow
from stint_api.read.listing.table import Table
from stint_api.read.queues import _described
from stint_api.read.runners import NUMBERS, WORDS, Fleet, _report, summary
from stint_api.read.standing import Standing
from stint_api.routes import documents
from stint_api.routes.fleet import _body
from tests.support.events import TOKEN, record, submitted
from tests.support.views import job_view

pytestmark = pytest.mark.soak  # some ten thousand values

S = TypeVar("S", bound=msgspec.Struct)

JOB: Final = "b" * 24
GOOD: Final = "a" * 24
TIME: Final = "2026-01-02T03:04:05.678Z"
NOW: Final = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
KEY: Final = KeyName("key", 1, "ab" * 32)

NUMBERS_OF_OTHERS = """0|-1|1|true|false|null|9007199254740993|9223372036854775807|9223372036854775808
-9223372036854775808|-9223372036854775809|18446744073709551616|1e308|-1e308|1e999|0.1|-0.0|NaN|Infinity"""
TIMES = """0001-01-01T00:00:00Z|0001-01-01T00:00:00+14:00|9999-12-31T23:59:59-14:00|9999-12-31T23:59:59.999999999Z
2026-01-01T00:00:00|2026-12-31T23:59:60Z|2026-01-01T00:00:00.123456789Z|2026-02-30T00:00:00Z|2026-01-01|20260101T000000Z"""
TEXTS = [
    *("", "\0", "a\nb", "\u202e\u2066", "\u2028", "\ufeff", "\x1b[31m\x07", "<script>'\"`</script>", "{0.__class__}"),
    *("%s%n", "javascript:alert(1)", "../../..", "*", ">", "[", "[/red]", "'; --", "İ", "x" * 100_000),
]
EXTREMES: Final = [
    *NUMBERS_OF_OTHERS.replace("\n", "|").split("|"),
    *("9" * digits for digits in (30, 400, 5000)),
    *(json.dumps(text) for text in (*TEXTS, *TIMES.replace("\n", "|").split("|"))),
    *('"\\ud800"', '"\\udc00\\ud800"', "[]", "{}", '{"a.b":1,"a.b":2}', '{"\\u0000":-9,"":null}', '{"a":1e400}'),
    *('{"a.b":9223372036854775808}', '{"a.b":-1,"a.c":null}', '["\\ud800",-1]'),
    *("[" * depth + "]" * depth for depth in (100, 10_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (100, 10_000)),
]


def forged(meant: bytes) -> Iterator[bytes]:
    """The object with each of its fields replaced by each extreme, or there twice."""
    fields: Mapping[str, Any] = json.loads(meant)
    for name in fields:
        rest = [f"{json.dumps(other)}:{json.dumps(value)}" for other, value in fields.items() if other != name]
        for extreme in EXTREMES:
            field = f"{json.dumps(name)}:{extreme}"
            yield f"{{{','.join([*rest, field])}}}".encode()
        name_text, value_text = json.dumps(name), json.dumps(fields[name])
        yield f"{{{','.join([f'{name_text}:null', *rest, f'{name_text}:{value_text}'])}}}".encode()


def whole(struct: msgspec.Struct) -> bytes:
    """With all fields, also those with their defaults."""
    names = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    tag = {struct.__struct_config__.tag_field: struct.__struct_config__.tag} if struct.__struct_config__.tag else {}
    return msgspec.json.encode({**tag, **{encoded: getattr(struct, name) for name, encoded in names}})


def stored(kind: str, body: bytes, sequence: int) -> Record:
    return to_record(EventAddress(kind, TOKEN, JOB), body, sequence=sequence, time=TIME)


class Lists:
    """The table of jobs, with a good one and one that is written again and again."""

    def __init__(self) -> None:
        self._table, self._good = Table(timedelta(days=1)), job_view(1, qname="deploys")
        self._table.complete()
        self._table.apply([StoredView(self._good.job_id, 1, encode(self._good))])
        self._revision = 1

    def read(self, shown: JobView | bytes) -> None:
        """It shows the good job, and this one or not. So do the questions that are asked of it."""
        table, self._revision = self._table, self._revision + 1
        body = shown if isinstance(shown, bytes) else encode(shown)
        table.apply([StoredView(JOB, self._revision, body)])
        found = table.find(Page(wanted=Wanted(), limit=10, counted=True))
        assert self._good.job_id in {job.job_id for job in found.jobs}
        for job in found.jobs:
            if job.job_id != self._good.job_id:
                read_by_the_page(job)
        table.ahead("deploys", sorted(job.submission for job in found.jobs))
        table.last_hour("deploys", NOW)
        (row,) = [row for row in table.queue_rows(NOW - timedelta(hours=1)) if row.qname == "deploys"]
        fleet._queue(_described(row, None, Fleet([]), NOW), NOW.timestamp())
        assert table.counts().by_status
        table.expire(NOW)


def read_by_the_client(answer: object, shape: type[S], columns: Sequence[Column[S]]) -> S:
    """A row of a table of the command line, which nothing can break."""
    one = read(parsed(documents.whole(answer)), shape)
    assert all(map(str.isprintable, table([one], columns, width=None)))
    return one


def read_by_the_page(job: JobView) -> None:
    fields = documents.fields(job, Standing(back_since=None))
    info = read_by_the_client(fields, JobInfo, ls.COLUMNS)
    assert events.line(JobChange(kind="job", id=JOB, queue=info.queue, job=info), NOW).isprintable()
    documents.whole(documents.fields(job))
    drawn_row(fields, NOW.timestamp())
    words.sentence(fields, NOW.timestamp())
    drawn_job._lasting(fields, NOW.timestamp())
    drawn_job._sentence(fields, 0.0, NOW.timestamp())
    list(drawn_job._facts(fields))


def read_by_one(job: Job) -> None:
    """A job's own page, the live stream and the receipt."""
    story = [fact(told, job.state) for told in job.facts.values()]
    fields = documents.last_seen(job, Chain(), None)
    facts = [read(parsed(documents.whole(told)), Fact) for told in story]
    assert all(map(str.isprintable, timeline(facts, read(parsed(documents.whole(fields)), JobResult))))
    drawn_job._verdict(fields, story)
    list(drawn_job._phases(fields, job, NOW.timestamp()))
    assert all(map(drawn_job._told, story))
    document(statement(job, KEY, TIME), bytes(64))


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_event(kind: str) -> None:
    order = [name for name in EVENT_TYPES if name not in {"rejected", "deleted"}]
    bodies = {name: whole(event) for name, event in examples().items()}
    lists, audit, at = Lists(), AuditTable(), 0
    for body in forged(bodies[kind]):
        for kinds in ([kind], order, [*order[::-1], kind, kind]):
            records = [stored(name, body if name == kind else bodies[name], at := at + 1) for name in kinds]
            good = record(submitted(), at := at + 1, job_id=GOOD)
            audit.apply([*records, good], {})
            if (job := fold(records)) and kind != "deleted":  # such a job is not shown
                asked(TOKEN, kind, 1, job)
                shown = view(job)
                assert read_view(JOB, encode(shown)) == shown
                if kinds is order:
                    read_by_one(job)
                    lists.read(shown)
        assert audit.find(WantedEntries(), 50)[0].job == GOOD
        audit.given(WantedSecret(secret="kv/data/demo"), 1, [TOKEN], 10)


def test_a_view() -> None:
    meant = msgspec.structs.replace(job_view(2, qname="deploys", status="stopping"), job_id=JOB, started=TIME)
    lists = Lists()
    for body in forged(whole(meant)):
        lists.read(body)


@pytest.mark.parametrize("kind", OPERATIONS)
def test_an_operation(kind: str) -> None:
    fields = {"event_id": "1", "at": TIME, "by": "ops", "type": kind, "runner": "r", "reason": "why"}
    for body in forged(json.dumps(fields).encode()):
        table = AuditTable()
        one = to_operation(EventAddress(kind, TOKEN, JOB), body, sequence=1, time=TIME)
        table.apply([one], {})
        assert len(table.find(WantedEntries(), 5)) == bool(one.event)
        if one.event:
            canonical(operated(TOKEN, one.event)._asdict())


def test_a_pause() -> None:
    for body in (b"junk", *forged(whole(Pause(who="ops", at=TIME, reason="why")))):
        described = _described(QueueRow("deploys"), read_pause(body), Fleet([]), NOW)
        assert fleet._queue(described, NOW.timestamp())["paused"]
        pause = read_by_the_client(described, QueueInfo, queues.QUEUES).paused
        assert pause
        assert (pause.at is None) == (described["paused"]["at"] == NEVER)


def test_a_report() -> None:
    meant = {"queues": ["a"], "capacity": 1, "busy": 0, "draining": True, "drained_by": "ops", "version": "1"}
    meant |= {"started": TIME, "kill_grace": 10, "engine_id": "e"}
    meant |= {**dict.fromkeys(NUMBERS, 1), **dict.fromkeys(WORDS, "x")}
    short = meant | {"kill_grace": 0.5, "runner": "r", "alive": True, "last_seen": TIME}
    assert read_by_the_client(_body(short, []).model_dump(), RunnerInfo, queues.RUNNERS).kill_grace == 0.5
    for body in forged(json.dumps(meant).encode()):
        report = _report(body)
        if report is None:
            continue
        report |= {"runner": "r", "alive": True, "last_seen": TIME}
        summary([report, report])
        Fleet([report]).serves("deploys")
        fleet._runner(_body(report, []), NOW.timestamp(), differ=False)
        read_by_the_client(_body(report, []).model_dump(), RunnerInfo, queues.RUNNERS)


@pytest.mark.parametrize("meant", [JobPhase(phase="pulling", progress=0.5), KeyOwner(owner="o", who="w", at=1)])
def test_what_else_is_stored(meant: msgspec.Struct) -> None:
    fields = documents.fields(job_view(1, status="running"))
    for body in forged(whole(meant)):
        try:
            read = decode(body, type(meant))
        except UndecodableError:
            continue
        if isinstance(read, JobPhase):
            words.sentence(fields | msgspec.to_builtins(read))
            assert 0 <= (read.progress or 0) <= 1
        documents.whole(read)
