"""The live streams of a `FakeStint`, and its jobs as they are shown."""

import base64
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import msgspec

import stint
from stint.core.job import Job
from stint.core.view import back_since, view
from stint.testing.fake.ending import Ending
from stint.testing.fake.jobs import FakeJobs, name_of, wanted_queue


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
            yield (
                _event("job", shown(job), str(known))
                if job
                else _event("gone", {"_id": job_id, "qname": qname}, str(known))
            )


def _fact(job: Job, kind: str) -> dict[str, Any]:
    record = job.facts[kind]
    own: dict[str, Any] = msgspec.to_builtins(record.event)
    chunks = {"output_chunks": own["chunks"]} if "chunks" in own else {}
    return own | chunks | {"kind": kind, "at": record.time, "sequence": record.sequence, "status": job.state}


def _event(name: str, data: Mapping[str, Any], mark: str = "") -> bytes:
    return f"event: {name}\nid: {mark}\ndata: {json.dumps(data)}\n\n".encode()
