"""The shapes of requests and answers, for the OpenAPI document. Requests are parsed by `stint_api.submit.body`."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from stint.core.job import State
from stint_api.errors import INVALID_REQUEST

REASONS: Final = {
    "": "It is not over, or it succeeded.",
    "exit_code": "The command exited with another code than 0.",
    "killed": "A kill stopped it, or was asked for before it started.",
    "timeout": "It ran for longer than it may, and was stopped.",
    "oom": "It used more memory than it may, and the kernel killed it.",
    "image": "The image cannot be had, is not allowed, or lacks what the job needs.",
    "content": "The content cannot be unpacked.",
    "secrets": "The wrapped secret id or a secret cannot be had; `error` says which.",
    "payload": "The payload cannot be opened, or asks for what cannot be.",
    "container": "The container could not be made or started, or its engine failed.",
    "rejected": "What was submitted straight to NATS is no submission.",
    "lost": "Its runner was lost; nobody can say how it ended.",
    "internal": "Stint failed.",
}
"""Each word that a job's `reason` can be, and its meaning."""

Status = Annotated[str, Field(json_schema_extra={"enum": [state for state in State if state is not State.DELETED]})]
Reason = Annotated[str, Field(json_schema_extra={"enum": list(REASONS)})]
JobId = Annotated[str, Field(pattern="^[0-9a-f]{24}$")]


class Body(BaseModel):
    """A JSON object whose fields are documented where they are declared."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ErrorBody(Body):
    """What every error answer in JSON holds."""

    status: str
    """The kind of error: the same text for the same HTTP status."""
    error: str
    """What is wrong. Never a secret."""
    job_id: JobId = Field("", alias="_id")
    """With a 503 where it is not known yet whether the request was taken: the job to look at. With a 410: the job that
    is gone."""


class SubmitBody(Body):
    """A sealed job: `cubby_token` and `cubby_path`, or `payload`. Otherwise the job's own fields count."""

    model_config = ConfigDict(title="Submission")

    wrap_secret_id: Annotated[str, Field(min_length=1)]
    """A response-wrapping token that holds a secret id of the jobs' AppRole. Spent when the job runs."""
    qname: str = ""
    """The queue. Lower-cased; up to 1000 bytes of UTF-8 without control characters."""
    cubby_token: str = ""
    """A Vault token in whose cubbyhole the sealed job lies. One use of it is spent."""
    cubby_path: str = ""
    """Where in the cubbyhole, such as `cubbyhole/job`; the key is `payload`."""
    payload: Annotated[str, Field(pattern=r"^(vault:v[0-9]+:[A-Za-z0-9+/]+={0,2})?$")] = ""
    """The sealed job itself, as transit's `encrypt` gave it: in place of the cubbyhole."""
    container_image: str = ""
    """The image, as `docker pull` would take it."""
    image_pull_policy: Literal["", "IfNotPresent", "Always"] = ""
    """When the image is pulled; `IfNotPresent` if not given."""
    content: str = ""
    """`targz,` and the base64 of a gzipped tar, unpacked over the container's `/` before the start."""
    entrypoint: list[str] = []
    """Replaces the image's."""
    run: list[str] = []
    """The command; replaces the image's."""
    working_directory: str = ""
    """Replaces the image's."""
    env_vars: list[str] = []
    """Environment variables, each as `NAME=value`."""
    secret_refs: list[str] = []
    """Secrets to inject, each as `variable@path.key`; paths of KV version 2 with their `data/`."""
    secret_file_type: Literal["", "yaml", "json"] = ""
    """Secrets stand in `/secrets.yml` or `/secrets.json`; `yaml` if not given."""
    cont_on_warnings: bool = False
    """Go on if Vault warns about a secret's path."""
    tty: bool = False
    """Give it a terminal: its output is then one stream."""
    expose_vault_token: bool = False
    """Put the job's own Vault token into its container."""
    timeout: Annotated[float, Field(ge=0)] = 0
    """Seconds that its container may run; 0 for the server's default, as with the limits below."""
    mask_secrets: bool = False
    """Replace the values of its secrets in its output."""
    on_lost: Literal["", "advance", "hold"] = ""
    """What its queue does when its runner is lost. Counts beside a sealed payload too."""
    cpus: Annotated[float, Field(ge=0)] = 0
    """Processors' worth of time, such as 0.5."""
    memory: int | str = 0
    """Bytes, or a number with `k`, `m`, `g` or `t` (powers of 1024)."""
    pids: Annotated[int, Field(ge=0)] = 0
    """Processes and threads at a time."""
    network: Literal["", "bridge", "none"] = ""
    """Its container's network."""
    read_only: bool = False
    """Its root file system cannot be written to."""


class SubmittedBody(Body):
    """A job that was taken."""

    job_id: JobId = Field(alias="_id")
    """The job's id."""
    status: Literal["queued"]
    """It waits for its turn."""
    qname: str
    """Its queue, lower-cased."""


class JobBody(Body):
    """A job. Times are RFC 3339 in UTC, `0001-01-01T00:00:00Z` until they have come."""

    job_id: JobId = Field(alias="_id")
    """The job's id."""
    status: Status
    """Where it stands."""
    node_uuid: str
    """The runner that took it, "" until one did."""
    qname: str
    """Its queue, lower-cased."""
    container_image: str
    """The image as it was asked for; "" for a sealed job that was not opened yet."""
    container_id: str
    """The engine's id of its container, "" until it has one."""
    submitted: str
    """When it was accepted."""
    started: str
    """When a runner took it."""
    ended: str
    """When it was over."""
    return_code: int
    """The command's exit code; 0 if none ran."""
    tty: bool
    """Whether it has a terminal."""
    kill_requested: bool
    """Whether somebody asked for its end."""
    held: bool
    """Whether its runner was lost, and its queue waits for that runner or for a release."""
    reason: Reason
    """Why it did not succeed, in one word."""
    error: str
    """The same in a sentence; "" if the command ran. Never a secret."""
    submitted_by: str
    """Vault's display name of the token that submitted it."""
    output_bytes: int
    """Size of its output so far, as it was stored."""
    output_complete: bool
    """Whether the output is known to be whole, up to the limit. While it runs: whether nothing is missing so far."""
    output_truncated: bool
    """Whether it wrote more than is kept."""
    output_masked: int
    """How many times a secret's value was replaced in its output."""
    output: str
    """What it wrote, both streams as they came; what went wrong, where nothing ran."""
    stdout: str
    """What it wrote to standard output."""
    stderr: str
    """What it wrote to standard error. Both are UTF-8, and what is not is replaced."""


class ListBody(Body):
    """A page of jobs, the last submitted first. Without `output=true` they carry no output."""

    data: list[JobBody]
    """The jobs of this page."""
    skip: int
    """How many were left out before them."""
    limit: int
    """How many a page may hold."""
    total: int
    """How many jobs there are in all that the filters let through."""


class KillBody(Body):
    """A kill that was taken note of."""

    job_id: str = Field(alias="_id")
    """The id as it was in the request."""
    container_id: str
    """The engine's id of its container, "" if it has none."""
    status: Status
    """Its status before the kill."""
    kill_requested: Literal[True]
    """Always true."""


class ReleasedBody(Body):
    """A job whose queue goes on."""

    job_id: str = Field(alias="_id")
    """The id as it was in the request."""
    status: Status
    """Its status before the release."""
    released: Literal[True]
    """Always true."""


class DeletedBody(Body):
    """A job that is gone."""

    job_id: str = Field(alias="_id")
    """The id as it was in the request."""


class VaultInfoBody(Body):
    """Where Vault is."""

    vault_addr: str
    """For the services."""
    vault_external_addr: str
    """For clients."""


Responses = dict[int | str, dict[str, Any]]

ERRORS: Final = {
    400: "The request is wrong.",
    403: "Vault does not take the token, or it may not do this.",
    404: "There is no such job.",
    408: "The request does not come, or comes too slowly.",
    409: "The Idempotency-Key was used for another request.",
    410: "The job of the Idempotency-Key was deleted, or is over and no longer kept.",
    413: "The request is too large.",
    429: "Vault takes no more requests for now, or the caller has too many event streams open.",
    500: "Something in Stint failed, or the cubbyhole cannot be read.",
    503: "NATS or Vault cannot be reached, or the API has too many requests or connections.",
}
"""When each status is answered."""
TITLES: Final = {
    INVALID_REQUEST: "No token is shown, Vault answers oddly to it, or the health key is wrong.",
    "Invalid job request.": "The request is wrong in any other way.",
}
"""When an error body has this `status`, where one HTTP status has several."""


def responses(body: type[BaseModel] | None, *errors: int) -> Responses:
    """The statuses of a route."""
    found: Responses = {200: {"description": "Done."} | ({"model": body} if body else {})}
    for code in errors:
        found[code] = {"model": ErrorBody, "description": ERRORS[code]}
    # Named, or FastAPI would promise a 422, which there never is.
    found["default"] = {"model": ErrorBody, "description": "Any other error."}
    return found
