"""The shapes of requests and answers, for the OpenAPI document. Requests are parsed by `stint_api.body`."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from stint.job import State


class ErrorBody(BaseModel):
    """What every error answer holds; with a 503 also `_id` where it is not known whether a job was taken."""

    status: str
    error: str


class SubmitBody(BaseModel):
    """A sealed job: `cubby_token` and `cubby_path`, or `payload`. Otherwise the job's own fields count."""

    model_config = ConfigDict(title="Submission")

    wrap_secret_id: str
    qname: str = ""
    cubby_token: str = ""
    cubby_path: str = ""
    payload: str = ""
    container_image: str = ""
    image_pull_policy: str = ""
    content: str = ""
    entrypoint: list[str] = []
    run: list[str] = []
    working_directory: str = ""
    env_vars: list[str] = []
    secret_refs: list[str] = []
    secret_file_type: str = ""
    cont_on_warnings: bool = False
    tty: bool = False
    expose_vault_token: bool = False


class SubmittedBody(BaseModel):
    """A job that was taken."""

    job_id: str = Field(alias="_id")
    status: str
    qname: str


class JobBody(BaseModel):
    """A job."""

    job_id: str = Field(alias="_id")
    status: State
    node_uuid: str
    qname: str
    container_image: str
    container_id: str
    submitted: str
    started: str
    ended: str
    return_code: int
    tty: bool
    kill_requested: bool
    reason: str
    error: str
    submitted_by: str
    output_bytes: int
    output_complete: bool
    output_truncated: bool
    output_masked: int
    output: str
    stdout: str
    stderr: str


class ListBody(BaseModel):
    """A page of jobs. Without `output=true` they carry no output."""

    data: list[JobBody]
    skip: int
    limit: int
    total: int


class KillBody(BaseModel):
    """`status` is the status before the kill."""

    job_id: str = Field(alias="_id")
    container_id: str
    status: State
    kill_requested: bool


class DeletedBody(BaseModel):
    """A job that is gone."""

    job_id: str = Field(alias="_id")


class VaultInfoBody(BaseModel):
    """Where Vault is."""

    vault_addr: str
    vault_external_addr: str


Responses = dict[int | str, dict[str, Any]]

_ERRORS: Final = {
    400: "The request is wrong.",
    403: "Vault does not take the token, or it may not do this.",
    404: "There is no such job.",
    413: "The body is too large.",
    500: "Something in Stint, or the cubbyhole, failed.",
    503: "NATS or Vault cannot be reached.",
}


def responses(body: type[BaseModel] | None, *errors: int) -> Responses:
    """The statuses of a route."""
    found: Responses = {200: {"description": "Done."} | ({"model": body} if body else {})}
    for code in errors:
        found[code] = {"model": ErrorBody, "description": _ERRORS[code]}
    # Named, or FastAPI would promise a 422, which there never is.
    found["default"] = {"model": ErrorBody, "description": "Any other error."}
    return found
