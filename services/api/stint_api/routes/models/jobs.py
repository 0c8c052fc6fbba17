"""Submissions and jobs."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from stint.core.phase import Phase
from stint.core.submission.payload import JobPayload
from stint.core.view import NEVER, JobView
from stint_api.read.standing import WaitsFor
from stint_api.routes.models.base import JOB_ID, AsOf, Body, Reason, Status, body_of
from stint_api.submit.body import Envelope


class SubmitBody(Body, body_of(Envelope, JobPayload, required={"wrap_secret_id"})):  # type: ignore[misc] # its fields are those that are read
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
            ]
        },
    )


_CARRIES_A_JOB: Final = {"qname", "cubby_token", "cubby_path", "payload"}


class RerunBody(Body, body_of(Envelope, leave_out=_CARRIES_A_JOB, required={"wrap_secret_id"})):  # type: ignore[misc] # its fields are those that are read
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
    "back_since": None,
    "reason": "",
    "error": "",
    "submitted_by": "token-stint-client",
    "output_bytes": 6,
    "output_complete": True,
    "output_truncated": False,
    "output_masked": 0,
    "output": "hello\n",
    "stdout": "hello\n",
    "stderr": "",
}


_LATER: Final = {"held", "held_since", "kill_requested_at", "kill_grace", "rerun_of", "output_masked"}
"""Fields that views of earlier versions lack, and that are always shown."""


class JobBody(Body, body_of(JobView, leave_out={"sequence", "submission"}, required=_LATER)):  # type: ignore[misc] # its fields are those of the view
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
    back_since: str | None
    """The first sign, since it was held, that its lost runner is back: output, its container or its end. Null if there
    is none, and in lists, which do not say it."""
    output: str
    """Both output streams, in the order in which the engine gave them; the error, if there is one and no output."""
    stdout: str
    """What it wrote to standard output."""
    stderr: str
    """What it wrote to standard error. Both are UTF-8, and what is not is replaced."""


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
