"""Queues, runners, the changes of all jobs, and who did what."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

import msgspec

from stint.client.job import resumed
from stint.client.rest.api import Api
from stint.client.results import JobInfo, Time, read
from stint.core.names.ids import queue_token


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Who paused a queue, when and why."""

    who: str = ""
    at: Time | None = None
    reason: str = ""


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True, rename={"name": "qname"}):
    """A queue, as the API shows it.

    Attributes:
        name: lower-cased.
        depth: how many jobs wait.
        running: the id of the job that a runner has, "" if none has one.
        running_status: that job's status.
        oldest_wait: seconds for which the job that waits longest has waited.
        held: whether that job's runner was lost, and the queue waits for it or for a release.
        held_since: when that was noticed.
        paused: None if it is not paused.
        served: whether a runner that is alive and takes jobs serves it.
        last_contact: when the runner of the running job reported last.
        ended_last_hour: jobs that ended within an hour.
        failed_last_hour: those of them that did not succeed.
        waiting: the ids of the first jobs that wait, in order; only from `Client.queue`.
    """

    name: str
    depth: int = 0
    running: str = ""
    running_status: str = ""
    oldest_wait: float = 0
    held: bool = False
    held_since: Time | None = None
    paused: Pause | None = None
    served: bool = True
    last_contact: Time | None = None
    ended_last_hour: int = 0
    failed_last_hour: int = 0
    waiting: tuple[str, ...] = ()


class RunnerInfo(msgspec.Struct, frozen=True, kw_only=True, rename={"name": "runner"}):
    """A runner, as it reported last.

    Attributes:
        alive: whether it reported within 30 seconds.
        draining: whether it takes no more jobs.
        drained_by: who asked for the drain, "" if that was a signal.
        capacity: how many jobs it runs at a time.
        running: the ids of its jobs, of those that the token may read.
        queues: the patterns of the queues that it serves; none means all.
        version: of Stint.
        started: when its process began.
        last_seen: when it reported last.
        kill_grace: seconds from SIGTERM to SIGKILL.
        engine: figures of its container engine.
    """

    name: str
    alive: bool = False
    draining: bool = False
    drained_by: str = ""
    capacity: int = 0
    running: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    version: str = ""
    started: Time | None = None
    last_seen: Time | None = None
    kill_grace: float = 0
    engine: dict[str, Any] = {}


class JobChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of some job.

    Attributes:
        kind: `begun` first: from now on each change is told, so that a list that is read now misses nothing; `job`;
            `gone` if the job is no longer shown; `missed` if changes were lost while the connection was broken.
        id: the job's, "" if it is about none.
        queue: the job's.
        job: the job as it is now, only with `job`.
    """

    kind: Literal["begun", "job", "gone", "missed"]
    id: str = ""
    queue: str = ""
    job: JobInfo | None = None


def queue_path(name: str) -> str:
    """The path of a queue, in the form that every name has. Raises InvalidQueueNameError."""
    return f"/v1/api/queue/={queue_token(name)}"


async def changes(api: Api, **wanted: str | None) -> AsyncGenerator[JobChange, None]:
    """The changes from now on. It raises what `resumed` does."""
    begun = False
    async with aclosing(resumed(api, "/v1/api/events", ended="Stint's live stream ended.", **wanted)) as events:
        async for event in events:
            match event.name:
                case "hello" if not begun or not event.data.get("resumed"):
                    yield JobChange(kind="missed" if begun else "begun")
                case "job":
                    job = read(event.data, JobInfo)
                    yield JobChange(kind="job", id=job.id, queue=job.queue, job=job)
                case "gone":
                    gone, queue = (read(event.data.get(name, ""), str) for name in ("_id", "qname"))
                    yield JobChange(kind="gone", id=gone, queue=queue)
            begun = begun or bool(event.position)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, rename={"queue": "qname", "address": "from"}):
    """Something that somebody did to a job, a queue or a runner.

    Attributes:
        at: when it was stored.
        who: Vault's display name of the token; if it is not proven, it may be a name that a direct publisher gave.
        entity: id of the identity in Vault, "" if there is none or it is not known.
        accessor: the token's, "" if it has none or it is not known.
        nats_user: a direct publisher's public nkey: the one that signed, or, if not proven, the one that it gave.
        action: `submitted`, `kill_requested`, `deleted` or `released`; of a queue `paused` or `resumed`; of a runner
            `drain_requested`.
        queue: the job's, or the one that was paused or resumed, "" for a runner.
        job: its id, "" for a queue or a runner.
        runner: the one that was asked to drain, otherwise "".
        reason: why a queue was paused, in the operator's own words, otherwise "".
        address: from which the API got the request, "" if that is not recorded.
        answer: `accepted`, `ignored` if the job's state did not allow it, or `rejected` for a malformed submission.
        status: the job's status now, which may be `deleted`; "" if it is not a job of this queue.
        proven: whether the API has written this for sure, or a direct publisher has signed it: then all that `who`,
            `entity`, `accessor` and `nats_user` say is proven. Otherwise it may be a direct publisher's claim.
        claimed: the name that a direct publisher gave, where something else is proven, otherwise "".
    """

    at: Time
    who: str
    entity: str
    accessor: str
    nats_user: str
    action: str
    queue: str
    job: str
    runner: str
    reason: str
    address: str
    answer: str
    status: str
    proven: bool
    claimed: str = ""


class SecretUse(msgspec.Struct, frozen=True, kw_only=True, rename={"queue": "qname"}):
    """A secret that a job got.

    Attributes:
        at: when it was stored that the job's container exists.
        job: the job's id.
        queue: its queue.
        who: who submitted the job.
        status: its status now, which may be `deleted`.
        secret: as jobs name it, `path.key`.
        version: that the job got, None unless the secret is in a KV engine of version 2.
        outdated: whether a job has got a newer version.
    """

    at: Time
    job: str
    queue: str
    who: str
    status: str
    secret: str
    version: int | None
    outdated: bool
