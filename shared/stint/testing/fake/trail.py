"""What was done to a `FakeStint`, which secrets its jobs got, and receipts."""

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from nacl.signing import SigningKey

from stint.core.audit.operations import OPERATIONS, AnyOperation
from stint.core.audit.receipt import KeyName, canonical, check_over, document, statement
from stint.core.audit.trail import Action, asked, is_older, operated, path_of
from stint.core.events import ACTIONS, Event, Launched, Record, Submitted, writer_of
from stint.core.job import Job
from stint.core.names.ids import queue_name
from stint.core.view import parse_time, rfc3339
from stint.testing.fake.jobs import WRITER, wanted_queue
from stint.testing.memory.events import MemoryEventLog

Fields = dict[str, Any]

_VERSION: Final = 1
"""Of the key that signs."""


class FakeTrail:
    """Answers from the log of the fake's jobs, and signs with a key of its own."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log
        self._key = SigningKey.generate()

    async def audit(self, wanted: Mapping[str, str]) -> list[Fields]:
        """What was done, the newest first."""
        since = parse_time(wanted["since"]) if "since" in wanted else None
        queue = wanted_queue(wanted)
        found: list[Fields] = []
        for record in reversed(self._log.records):
            done = await self._done(record)
            if done is None or (since and parse_time(record.time) < since):
                continue
            event, action = done
            if queue in {None, action.qname} and wanted.get("who", event.by) == event.by:
                found.append(_entry(record, event, action))
        return found

    async def _done(self, record: Record) -> tuple[Event, Action] | None:
        """What a record of the log says that somebody did, and what came of it."""
        event = record.event
        if isinstance(event, AnyOperation):
            return event, operated(record.token, event)
        job = await self._log.load(record.job_id)
        if event is None or record.kind not in ACTIONS or job is None:
            return None
        return event, asked(record.token, record.kind, record.sequence, job)

    async def lineage(self, wanted: Mapping[str, str]) -> list[Fields]:
        """Which jobs got a secret, the newest first."""
        secret, version, outdated = (wanted.get(name, "") for name in ("secret", "version", "outdated"))
        given = list(self._given(path_of(secret)))
        newest = max((version for _, _, version in given if version is not None), default=None)
        return [
            await self._use(record, name, got, outdated=is_older(got, newest))
            for record, name, got in given
            if secret in {name, path_of(name)}
            if not version or got == int(version)
            if not outdated or (got is not None and is_older(got, newest) == (outdated == "true"))
        ]

    def _given(self, path: str) -> Iterator[tuple[Record, str, int | None]]:
        """The secrets of this path that jobs got, and their versions, the newest first."""
        for record in reversed(self._log.records):
            if isinstance(record.event, Launched):
                for name, version in reversed(record.event.secrets.items()):
                    if path_of(name) == path:
                        yield record, name, version

    async def _use(self, record: Record, name: str, version: int | None, *, outdated: bool) -> Fields:
        job = await self._log.load(record.job_id)
        return {
            "at": _at(record),
            "job": record.job_id,
            "qname": queue_name(record.token),
            "who": WRITER,
            "status": job.state if job else "",
            "secret": name,
            "version": version,
            "outdated": outdated,
        }

    def receipt(self, job: Job) -> bytes:
        """A signed statement of what became of a job. Raises IllegalCommandError if it has not ended."""
        check_over(job)
        key = KeyName.of(WRITER, _VERSION, bytes(self._key.verify_key))
        stated = statement(job, key, rfc3339(datetime.now(UTC)), writer_of(job.fact(Submitted)))
        return document(stated, self._key.sign(canonical(stated)).signature)

    def keys(self) -> Fields:
        return {"name": WRITER, "keys": {str(_VERSION): base64.b64encode(bytes(self._key.verify_key)).decode()}}


def _entry(record: Record, event: Event, action: Action) -> Fields:
    return {
        "at": _at(record),
        "who": event.by,
        "entity": event.by_entity,
        "accessor": event.by_accessor,
        "nats_user": event.by_nats_user,
        "from": event.by_address,
        "action": record.kind,
        "job": "" if record.kind in OPERATIONS else record.job_id,
        "proven": True,
        "claimed": "",
        **action._asdict(),
    }


def _at(record: Record) -> str:
    return rfc3339(parse_time(record.time))
