"""Bodies of requests and answers. Fields that are parsed or stored as a struct are declared there, once."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from stint.core.events import ACTIONS
from stint.core.job import State
from stint.core.payload import JobPayload
from stint.core.phase import Phase
from stint.core.view import NEVER, JobView
from stint_api.read.runners import NUMBERS, WORDS
from stint_api.read.standing import WaitsFor
from stint_api.submit.body import Envelope

REASONS: Final = {
    "": "It is not over, or it succeeded.",
    "exit_code": "The command exited with another code than 0.",
    "killed": "A kill stopped it, or was asked for before it started.",
    "timeout": "It ran for longer than it may, and was stopped.",
    "oom": "It used more memory than it may, and the kernel killed it.",
    "image": "The image cannot be obtained, is not allowed, or lacks what the job needs.",
    "content": "The content cannot be unpacked.",
    "secrets": "The wrapped secret id or a secret cannot be obtained; `error` says which.",
    "payload": "The payload cannot be opened, or asks for something impossible.",
    "container": "The container could not be made or started, or its engine failed.",
    "rejected": "A malformed submission was published to NATS directly.",
    "lost": "Its runner was lost; it is not known how the job ended.",
    "internal": "Stint failed.",
}
"""Each word that a job's `reason` can be, and its meaning."""
SHOWN: Final = tuple(state for state in State if state is not State.DELETED)
"""The states that clients see: a deleted job is not shown."""
JOB_ID: Final = "65f0c2a19b3e4d5f6a7b8c9d"
"""The id in the examples."""


WAITS: Final[Mapping[WaitsFor, str]] = {
    "": "Nothing: it does not wait, or it is about to start.",
    "turn": "Other jobs of its queue come first.",
    "held": "Its queue waits for a lost runner or for a release.",
    "paused": "Its queue is paused.",
    "unserved": "No runner that is alive and takes jobs serves its queue.",
    "capacity": "It is next, and the runners that serve its queue have no free slot.",
}
"""Each word that a job's `waits_for` can be, and its meaning."""


def _shown(text: str) -> str:
    if text not in SHOWN:
        raise ValueError(f"must be one of {', '.join(SHOWN)}")
    return text


Status = Annotated[str, AfterValidator(_shown), Field(json_schema_extra={"enum": [*SHOWN]})]
Reason = Annotated[str, Field(json_schema_extra={"enum": [*REASONS]})]


class Body(BaseModel):
    """A JSON object whose fields are documented where they are declared."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def body_of(
    *shapes: type[msgspec.Struct], leave_out: Collection[str] = (), required: Collection[str] = ()
) -> type[Body]:
    """A base class with the fields of these structs, and their descriptions.

    `required` fields have a default in the struct, and must be in the body nevertheless.
    """
    found = {field.name: field for shape in shapes for field in msgspec.structs.fields(shape)}
    fields: dict[str, Any] = {
        name: _described(field, required=name in required) for name, field in found.items() if name not in leave_out
    }
    return create_model("Fields", __base__=Body, **fields)


def _described(field: msgspec.structs.FieldInfo, *, required: bool) -> tuple[Any, Any]:
    meta: msgspec.Meta = field.type.__metadata__[0]
    return field.type.__origin__, Field(
        ... if required or field.default is msgspec.NODEFAULT else field.default,
        alias=field.encode_name,
        description=meta.description,
        json_schema_extra=meta.extra_json_schema,
    )


class SubmitBody(body_of(Envelope, JobPayload, required={"wrap_secret_id"})):  # type: ignore[misc] # its fields are those that are read
    """A sealed job: `cubby_token` and `cubby_path`, or `payload`. Otherwise the job's own fields count."""

    model_config = ConfigDict(
        title="Submission",
        json_schema_extra={
            "examples": [
                {
                    "qname": "deploys",
                    "wrap_secret_id": "s.wrapped",
                    "container_image": "busybox",
                    "run": ["echo", "hello"],
                }
            ],
        },
    )


_CARRIES_A_JOB: Final = {"qname", "cubby_token", "cubby_path", "payload"}


class RerunBody(body_of(Envelope, leave_out=_CARRIES_A_JOB, required={"wrap_secret_id"})):  # type: ignore[misc] # its fields are those that are read
    """What a rerun brings along."""

    model_config = ConfigDict(title="Rerun", json_schema_extra={"examples": [{"wrap_secret_id": "s.wrapped"}]})


class SubmittedBody(Body):
    """A job that was accepted."""

    job_id: Annotated[str, Field(pattern="^[0-9a-f]{24}$", examples=[JOB_ID])] = Field(alias="_id")
    """The job's id."""
    status: Literal["queued"]
    """The job waits for its turn."""
    qname: Annotated[str, Field(examples=["deploys"])]
    """Its queue, lower-cased."""


_EXAMPLE: Final[dict[str, Any]] = {
    "_id": JOB_ID,
    "status": "success",
    "node_uuid": "runner-1",
    "qname": "deploys",
    "container_image": "busybox",
    "container_id": "9b1f" * 16,
    "submitted": "2025-03-12T20:58:57.412Z",
    "started": "2025-03-12T20:58:57.43Z",
    "ended": "2025-03-12T20:58:57.981Z",
    "return_code": 0,
    "tty": False,
    "kill_requested": False,
    "kill_requested_at": NEVER,
    "kill_grace": 15.0,
    "held": False,
    "held_since": NEVER,
    "rerun_of": "",
    "position": 0,
    "waits_for": "",
    "phase": "",
    "progress": None,
    "reason": "",
    "error": "",
    "who": "token-stint-client",
    "submitted_by": "token-stint-client",
    "output_bytes": 6,
    "output_complete": True,
    "output_truncated": False,
    "output_masked": 0,
    "output": "hello\n",
    "stdout": "hello\n",
    "stderr": "",
}


_LATER: Final = {"held", "held_since", "kill_requested_at", "kill_grace", "rerun_of", "output_masked", "who"}
"""Fields that views of earlier versions lack, and that are always shown."""


class JobBody(body_of(JobView, leave_out={"sequence", "submission"}, required=_LATER)):  # type: ignore[misc] # its fields are those of the view
    """A job. Times are RFC 3339 in UTC, `0001-01-01T00:00:00Z` until they have come."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    status: Status
    """Its state."""
    reason: Reason
    """Why it did not succeed, in one word."""
    position: int
    """Its place among the jobs that wait in its queue: 1 for the next one, 0 if it does not wait or nobody knows."""
    waits_for: WaitsFor
    """What it waits for, in one word."""
    phase: Phase | Literal[""]
    """While it runs: what its runner does for it, "" if nobody has said that lately."""
    progress: float | None
    """How much of its image is pulled, from 0 to 1, if that is known."""
    output: str
    """Both output streams, in the order in which they were written; the error, if nothing ran."""
    stdout: str
    """What it wrote to standard output."""
    stderr: str
    """What it wrote to standard error. Both are UTF-8, and what is not is replaced."""


class AsOf(Body):
    """What all lists from an index say."""

    now: Annotated[str, Field(examples=["2025-03-12T20:58:59.412Z"])]
    """The API's time."""
    as_of: Annotated[str, Field(examples=["2025-03-12T20:58:58.7Z"])]
    """Until when the index is complete."""


class ListBody(AsOf):
    """A page of jobs, the last submitted first. Without `output=true` they carry no output."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": [_EXAMPLE | {"output": "", "stdout": ""}],
                    "skip": 0,
                    "limit": 10,
                    "total": 1,
                    "now": "2025-03-12T20:58:59.412Z",
                    "as_of": "2025-03-12T20:58:58.7Z",
                }
            ]
        }
    )

    data: list[JobBody]
    """The jobs of this page."""
    skip: int
    """How many jobs were skipped before them."""
    limit: int
    """How many jobs a page may have."""
    total: int
    """How many jobs pass the filters."""
    counts: dict[Status, int] | None = None
    """With `counts=1`: how many jobs with each status pass all filters but `status`; 0 is omitted."""


class ActionBody(Body):
    """Something that somebody did, as an event says."""

    at: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When the log took it."""
    who: Annotated[str, Field(examples=["token-stint-client"])]
    """Vault's display name of the token, or the name that a direct publisher gave."""
    entity: str
    """Id of the identity in Vault, "" if there is none."""
    accessor: Annotated[str, Field(examples=["iT2fxqiZQyQVWDSWUvGwHV4l"])]
    """The token's accessor, "" if it has none."""
    nats_user: str
    """The public nkey that a direct publisher gave. Always a claim."""
    action: Annotated[str, Field(examples=["submitted"], json_schema_extra={"enum": sorted(ACTIONS)})]
    """The kind of the event."""
    qname: Annotated[str, Field(examples=["deploys"])]
    """The queue."""
    job: Annotated[str, Field(examples=[JOB_ID])]
    """The job's id."""
    from_: Annotated[str, Field(alias="from", examples=["10.2.3.4"])]
    """The address from which the API got the request, "" if that is not recorded."""
    answer: Annotated[str, Field(json_schema_extra={"enum": ["accepted", "ignored", "rejected"]})]
    """`accepted`; `ignored` if the job's state did not allow it; `rejected` for a malformed submission."""
    status: Annotated[str, Field(examples=["success"])]
    """The job's status now, which may be `deleted`; "" if it is not a job of this queue."""
    proven: bool
    """Whether only the API can have written this, so that `who`, `entity` and `accessor` are what Vault said to it.
    Otherwise a direct publisher of the queue can have written it, with other names."""


class AuditBody(AsOf):
    """A page of actions, the newest first."""

    data: list[ActionBody]
    """The actions of this page. It may be short although there is a next page."""


class HolderBody(Body):
    """A secret that a job got."""

    at: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When the log took the event that the job's container exists."""
    job: Annotated[str, Field(examples=[JOB_ID])]
    """The job's id."""
    qname: Annotated[str, Field(examples=["deploys"])]
    """The queue."""
    who: Annotated[str, Field(examples=["token-stint-client"])]
    """Who submitted the job."""
    status: Annotated[str, Field(examples=["running"])]
    """The job's status now, which may be `deleted`."""
    secret: Annotated[str, Field(examples=["kv/data/demo.password"])]
    """The secret, as `path.key`."""
    version: Annotated[int | None, Field(examples=[7])]
    """The version that it got; null unless the secret is in a KV engine of version 2."""
    outdated: bool
    """Whether a job has got a newer version."""


class LineageBody(AsOf):
    """A page of the jobs that got a secret, the newest first."""

    data: list[HolderBody]
    """The secrets of this page. It may be short although there is a next page."""
    newest: Annotated[int | None, Field(examples=[7])]
    """The newest version that a job got, in the queues that the caller may read."""


class RunnerBody(Body):
    """A runner, as it reported last."""

    runner: Annotated[str, Field(examples=["runner-1"])]
    """Its name."""
    alive: bool
    """Whether it reported within 30 seconds. If not, it is not known whether its containers live."""
    last_seen: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When it reported last."""
    draining: bool
    """Whether it takes no more jobs."""
    drained_by: Annotated[str, Field(examples=["token-stint-operator"])]
    """Who asked for the drain, "" if that was a signal."""
    capacity: Annotated[int, Field(examples=[4])]
    """How many jobs it runs at a time."""
    running: list[Annotated[str, Field(examples=[JOB_ID])]]
    """The ids of its jobs, of those that the caller may read."""
    queues: list[Annotated[str, Field(examples=["deploys"])]]
    """The patterns of the queues that it serves; none means all."""
    version: Annotated[str, Field(examples=["0.1.0"])]
    """Its version of Stint."""
    started: Annotated[str, Field(examples=["2025-03-12T20:00:00.000Z"])]
    """When its process began, by its own clock."""
    kill_grace: Annotated[int, Field(examples=[10])]
    """Seconds from SIGTERM to SIGKILL."""
    engine: dict[str, int | str]
    """Figures of its container engine."""


class RunnersBody(AsOf):
    """The runners."""

    data: list[RunnerBody]
    """Those that are alive first."""


class DrainedBody(Body):
    """A runner that was asked to drain."""

    runner: Annotated[str, Field(examples=["runner-1"])]
    """Its name."""
    asked: Literal[True]
    """Always true."""


class ReceiptKeysBody(Body):
    """The public keys that receipts are checked with."""

    name: Annotated[str, Field(examples=["stint-receipt"])]
    """The transit key in Vault."""
    keys: Annotated[dict[str, str], Field(examples=[{"1": "3D8X0vQd1C7S3tF2aWZ4N5oY6pU7rB8sK9mJ0lHgTfE="}])]
    """The 32 bytes of each version's public key (ed25519), in base64, by version."""


class DeletedBody(Body):
    """A job that was deleted."""

    job_id: Annotated[str, Field(examples=[JOB_ID])] = Field(alias="_id")
    """The id as it was in the request."""


class KillBody(DeletedBody):
    """The answer to a kill."""

    container_id: Annotated[str, Field(examples=["9b1f" * 16])]
    """The engine's id of its container, "" if it has none."""
    status: Annotated[Status, Field(examples=["running"])]
    """Its status before the kill."""
    kill_requested: Annotated[bool, Field(examples=[True])]
    """Whether a kill was requested; false if the job had already ended."""


class ReleasedBody(DeletedBody):
    """A job whose queue continues."""

    status: Annotated[Status, Field(examples=["running"])]
    """Its status before the release."""
    released: Literal[True]
    """Always true."""


class PausedBody(Body):
    """The pause of a queue."""

    who: Annotated[str, Field(examples=["oidc-anna"])]
    """Vault's display name of the operator's token."""
    at: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When the queue was paused."""
    reason: Annotated[str, Field(examples=["The database is being moved."])]
    """The operator's own words."""


_QUEUE: Final[dict[str, Any]] = {
    "qname": "deploys",
    "depth": 2,
    "running": JOB_ID,
    "running_status": "running",
    "oldest_wait": 17.0,
    "held": False,
    "held_since": NEVER,
    "paused": None,
    "served": True,
    "last_contact": "2025-03-12T20:58:57.412Z",
    "ended_last_hour": 31,
    "failed_last_hour": 1,
}


class QueueBody(Body):
    """A queue. Times are RFC 3339 in UTC, `0001-01-01T00:00:00Z` for none."""

    model_config = ConfigDict(json_schema_extra={"examples": [_QUEUE]})

    qname: str
    """Its name."""
    depth: int
    """How many jobs wait."""
    running: str
    """The id of the job that a runner has, "" if none has one."""
    running_status: Literal["", "running", "stopping"]
    """The status of that job."""
    oldest_wait: float
    """For how many seconds the job that waits longest has waited; 0 if none waits."""
    held: bool
    """Whether the runner of that job was lost, and the queue waits for that runner or for a release."""
    held_since: str
    """When that was noticed."""
    paused: PausedBody | None
    """Who paused it, when and why; null if it is not paused."""
    served: bool
    """Whether a runner that is alive and takes jobs serves it."""
    last_contact: str
    """When the runner of the running job reported last; when the job started, if that runner is not alive."""
    ended_last_hour: int
    """Jobs that ended within an hour, as far as they are kept."""
    failed_last_hour: int
    """Those of them that did not succeed."""


class QueueDetailBody(QueueBody):
    """A queue, and which jobs wait in it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_QUEUE | {"waiting": [JOB_ID]}]})

    waiting: list[str]
    """The ids of the first 100 jobs that wait, in order."""


class QueueListBody(Body):
    """The queues with jobs that can be seen, and those that are paused, by name."""

    data: list[QueueBody]
    """The queues that the caller may read."""
    now: str
    """The time."""
    as_of: str
    """When the list of jobs behind these figures was last known to be up to date."""


class VaultInfoBody(Body):
    """The addresses of Vault."""

    vault_addr: Annotated[str, Field(examples=["http://127.0.0.1:8200"])]
    """For the services."""
    vault_external_addr: Annotated[str, Field(examples=["https://vault.example:8200"])]
    """For clients."""


_FIGURES: Final = ("all_jobs", *(f"{state}_jobs" for state in SHOWN), "unserved_jobs", *NUMBERS, *WORDS)
_TEXTS: Final[dict[str, Any]] = dict.fromkeys(_FIGURES, str)
HealthBody: Final = create_model(
    "HealthBody",
    __doc__="Counts of jobs, and figures of the runners' engines: all of them text.",
    state=Literal["active", "draining"],
    **_TEXTS,
)


class ErrorBody(Body):
    """What every error answer in JSON holds."""

    status: str
    """The kind of error: the same text for the same HTTP status."""
    error: str
    """What is wrong. Never a secret."""
    job_id: Annotated[str, Field(pattern="^[0-9a-f]{24}$")] = Field("", alias="_id")
    """With a 503 where it is not known yet whether the request was taken: the job to look at. With a 410: the job that
    is gone."""
