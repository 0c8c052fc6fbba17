"""The live streams of a `FakeStint`, and its jobs, queues and runner as they are shown."""

import base64
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

import stint
from stint.core.events import Held
from stint.core.job import ACTIVE, Job, State
from stint.core.view import NEVER, back_since, parse_time, rfc3339, view
from stint.testing.fake.jobs import WRITER, Ending, FakeJobs, name_of, wanted_queue

Fields = dict[str, Any]


def shown(job: Job) -> dict[str, Any]:
    """A job in a list."""
    fields: dict[str, Any] = msgspec.to_builtins(view(job))
    return fields


class FakeStreams:
    """Tells what happens to jobs as Server-Sent Events."""

    def __init__(self, jobs: FakeJobs) -> None:
        self._jobs = jobs

    def one(self, job: Job) -> dict[str, Any]:
        return shown(job) | {"back_since": back_since(job, self._jobs.back.get(job.job_id, ""))}

    async def of_job(self, job_id: str) -> AsyncGenerator[bytes, None]:
        told: set[str] = set()
        while job := await self._jobs.load(job_id):
            known = len(self._jobs.changes)
            if job.terminal:
                for event in self._output(job_id):
                    yield event
            for kind in job.facts:
                if kind not in told:
                    yield _event("fact", _fact(job, kind))
            told |= job.facts.keys()
            if job.terminal:
                yield _event("end", self.one(job))
                return
            await self._jobs.changed(known)

    def _output(self, job_id: str) -> Iterator[bytes]:
        offset = 0
        for number, (stream, data) in enumerate(self._jobs.endings.get(job_id, Ending()).chunks(), start=1):
            text = base64.b64encode(data).decode()
            yield _event("output", {"number": number, "offset": offset, "stream": stream, "data": text})
            offset += len(data)

    async def of_all(self, wanted: Mapping[str, str], mark: str) -> AsyncGenerator[bytes, None]:
        """The changes of all jobs, from now on, or from where the client was."""
        queue, status = wanted_queue(wanted), wanted.get("status")
        known = int(mark) if mark else len(self._jobs.changes)
        yield _event("hello", {"release": stint.__version__, "resumed": bool(mark)}, str(known))
        while True:
            await self._jobs.changed(known)
            job_id, was = self._jobs.changes[known]
            known += 1
            job = await self._jobs.load(job_id)
            qname = name_of(self._jobs.submitted[job_id])
            if queue not in {None, qname} or status not in {None, was, job.state if job else None}:
                continue
            name, fields = ("job", shown(job)) if job else ("gone", {"_id": job_id, "qname": qname})
            yield _event(name, fields, str(known))


def _fact(job: Job, kind: str) -> dict[str, Any]:
    record = job.facts[kind]
    own: dict[str, Any] = msgspec.to_builtins(record.event)
    names = {"output_chunks": own.get("chunks", 0), "status": job.state}
    return own | names | {"kind": kind, "at": record.time, "sequence": record.sequence}


def _event(name: str, data: Mapping[str, Any], mark: str = "") -> bytes:
    return f"event: {name}\nid: {mark}\ndata: {json.dumps(data)}\n\n".encode()


class FakeFleet:
    """Queues that can be paused, and one runner that can be drained: it then starts nothing more."""

    def __init__(self, jobs: FakeJobs) -> None:
        self._jobs = jobs
        self._begun = rfc3339(datetime.now(UTC))

    async def queues(self) -> list[Fields]:
        """Those with jobs, and those that are paused, by name."""
        jobs = self._jobs.submitted
        with_jobs = {name_of(jobs[job.job_id]) for job in await self._jobs.all()}
        return [await self.queue(name) for name in sorted(with_jobs | self._jobs.pauses.keys())]

    async def queue(self, name: str) -> Fields:
        jobs = await self._jobs.all(name)
        waiting = [job for job in jobs if job.state is State.QUEUED]
        ended = [job for job in jobs if job.terminal]
        running = next((view(job) for job in jobs if job.state in ACTIVE), None)
        return {
            "qname": name,
            "depth": len(waiting),
            "running": running.job_id if running else "",
            "running_status": running.status if running else "",
            "oldest_wait": _age(waiting[0]) if waiting else 0.0,
            "held": bool(running and running.held),
            "held_since": running.held_since if running else NEVER,
            "paused": self._jobs.pauses.get(name),
            "served": not self._jobs.draining,
            "last_contact": running.started if running else NEVER,
            "ended_last_hour": len(ended),
            "failed_last_hour": sum(job.state is not State.SUCCESS for job in ended),
            "waiting": [job.job_id for job in waiting],
        }

    async def pause(self, name: str, reason: str) -> Fields:
        self._jobs.pauses[name] = {"who": WRITER, "at": rfc3339(datetime.now(UTC)), "reason": reason}
        return await self.queue(name)

    async def resume(self, name: str) -> Fields:
        self._jobs.pauses.pop(name, None)
        await self._jobs.start()
        return await self.queue(name)

    async def runners(self) -> list[Fields]:
        running = [job for job in await self._jobs.all() if job.state in ACTIVE and Held.kind not in job.facts]
        now = rfc3339(datetime.now(UTC))
        return [
            {
                "runner": WRITER,
                "alive": True,
                "draining": self._jobs.draining,
                "drained_by": WRITER if self._jobs.draining else "",
                "capacity": 1,
                "running": [job.job_id for job in running],
                "queues": [],
                "version": stint.__version__,
                "started": self._begun,
                "last_seen": now,
                "kill_grace": 10,
                "engine": {},
            }
        ]

    def drain(self, runner: str) -> bool:
        """Start nothing more; False if there is no such runner."""
        if runner != WRITER:
            return False
        self._jobs.draining = True
        return True


def _age(job: Job) -> float:
    waited = datetime.now(UTC) - parse_time(view(job).submitted)
    return float(max(int(waited.total_seconds()), 0))
