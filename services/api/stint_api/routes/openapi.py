"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot see in them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from stint.core.job import State
from stint_api.auth.authenticator import SUBMIT, refusal_text
from stint_api.errors import INVALID_REQUEST, RefusalError, error_answer
from stint_api.routes.query import DEFAULT_LIMIT, MAX_LIMIT
from stint_api.routes.schemas import ERRORS, TITLES

Json = dict[str, Any]

JOBS: Final = "/v1/api/job"
JOB_ERRORS: Final = (400, 403, 429, 500, 503)
"""What every route under `JOBS` may answer: all of them ask Vault about the token, and then NATS."""

ERROR_EXAMPLES: Final = {
    400: "Invalid job ID (not ObjectIdHex).",
    403: refusal_text(SUBMIT, "deploys"),
    404: "not found",
    408: "The request's body comes too slowly.",
    409: "The Idempotency-Key was used for another request.",
    410: "The job of this Idempotency-Key, 65f0c2a19b3e4d5f6a7b8c9d, was deleted.",
    413: "The request is larger than 30 MiB.",
    429: "Vault takes no more requests at the moment: its rate limit is reached.",
    500: "POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole from vault, error: permission denied",
    503: "NATS is not reachable or does not answer.",
}
"""One sentence of those that each status comes with."""
NO_TOKEN: Final = RefusalError(400, "Missing X-Auth-Token", title=INVALID_REQUEST)
"""What every route under `JOBS` answers first."""

_ID: Final = "65f0c2a19b3e4d5f6a7b8c9d"
_TEXT: Final = {"schema": {"type": "string"}}
_SHOWN: Final = [state.value for state in State if state is not State.DELETED]

_JOB: Final = {
    "_id": _ID,
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
    "held": False,
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

_EVENT: Final = {
    "description": "Each event of the stream.",
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["fact", "output", "end", "refused"]},
        "id": {"type": "string", "description": "For Last-Event-ID."},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_EVENTS: Final = """\
event: fact
id: 17-0-0
data: {"kind":"submitted","at":"2025-03-12T20:58:57.412Z","sequence":17,"status":"queued",\
"by":"token-stint-client","by_entity":"","by_accessor":"iT2fxqiZQyQVWDSWUvGwHV4l"}

event: output
id: 19-4-1
data: {"number":1,"offset":0,"stream":"stdout","data":"aGVsbG8K"}

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is added to a route.

    Attributes:
        parameters: of the query and the header. Those of the path are FastAPI's.
        body: an example of the request's body.
        example: of the answer in JSON.
        content: the answer's content by media type, where it is not only JSON.
        errors: statuses besides those that the route names itself.
        refusals: examples of errors by status, where `ERROR_EXAMPLES` does not fit.
    """

    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    example: Json | None = None
    content: Mapping[str, Json] | None = None
    errors: tuple[int, ...] = ()
    refusals: Mapping[int, RefusalError] = field(default_factory=dict)


def _parameter(name: str, words: str, schema: Json, place: str = "query") -> Json:
    return {"name": name, "in": place, "required": False, "description": words, "schema": schema}


JOB_ID: Final[Json] = {
    "description": "The job's id.",
    "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"},
    "example": _ID,
}
"""The only parameter that a path has."""
_TEMPORARY: Final = (429, 503)
_RETRY_AFTER: Final[Json] = {
    "description": "Seconds after which to try again. Only where a limit of the API itself is reached.",
    "schema": {"type": "integer"},
}
_TIME: Final = {"type": "string", "format": "date-time"}

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("post", JOBS): Operation(
        parameters=(
            _parameter(
                "Idempotency-Key",
                "The same caller, key and body give the same job, whenever they come again.",
                {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
                "header",
            ),
        ),
        body={
            "qname": "deploys",
            "wrap_secret_id": "s.wrapped",
            "container_image": "busybox",
            "run": ["echo", "hello"],
        },
        example={"_id": _ID, "status": "queued", "qname": "deploys"},
        errors=(408, 409, 410, 413),
    ),
    ("get", JOBS): Operation(
        parameters=(
            _parameter("skip", "Leave out this many.", {"type": "integer", "minimum": 0, "default": 0}),
            _parameter(
                "limit",
                "Jobs a page.",
                {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            ),
            _parameter("qname", "Only of this queue.", {"type": "string"}),
            _parameter("status", "Only in this status.", {"type": "string", "enum": _SHOWN}),
            _parameter("held", "Only those that are held, or that are not.", {"type": "boolean"}),
            _parameter("submitted_after", "Only later than this.", _TIME),
            _parameter("submitted_before", "Only earlier than this.", _TIME),
            _parameter("output", "With their output.", {"type": "boolean", "default": False}),
        ),
        example={"data": [_JOB | {"output": "", "stdout": ""}], "skip": 0, "limit": 10, "total": 1},
    ),
    ("get", f"{JOBS}/{{job_id}}"): Operation(
        parameters=(_parameter("output", "Without it, if `false`.", {"type": "boolean", "default": True}),),
        example=_JOB,
    ),
    ("delete", f"{JOBS}/{{job_id}}"): Operation(example={"_id": _ID}),
    ("post", f"{JOBS}/kill/{{job_id}}"): Operation(
        example={"_id": _ID, "container_id": "9b1f" * 16, "status": "running", "kill_requested": True}
    ),
    ("post", f"{JOBS}/{{job_id}}/release"): Operation(
        example={"_id": _ID, "status": "running", "released": True},
        refusals={400: RefusalError(400, "Only a job that is held can be released.")},
    ),
    ("get", f"{JOBS}/{{job_id}}/events"): Operation(
        parameters=(
            _parameter(
                "Last-Event-ID",
                "Go on behind this event; from the beginning, if it is none.",
                {"type": "string"},
                "header",
            ),
        ),
        content={"text/event-stream": {"schema": _EVENT, "example": _EVENTS}},
    ),
    ("get", f"{JOBS}/{{job_id}}/output"): Operation(
        parameters=(_parameter("stream", "Only this stream.", {"type": "string", "enum": ["stdout", "stderr"]}),),
        content={"application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "hello\n"}},
    ),
    ("get", "/v1/api/health"): Operation(
        parameters=(_parameter("k", "Only the value of this key, as plain text.", {"type": "string"}),),
        content={
            "application/json": {"schema": {"$ref": "#/components/schemas/HealthBody"}},
            "text/plain": {**_TEXT, "example": "3"},
        },
        refusals={400: RefusalError(400, "Invalid health metric key", title=INVALID_REQUEST)},
    ),
    ("get", "/v1/api/vault/info"): Operation(
        example={"vault_addr": "http://127.0.0.1:8200", "vault_external_addr": "http://127.0.0.1:8200"}
    ),
    ("get", "/v1/api/metrics"): Operation(content={CONTENT_TYPE_PLAIN_0_0_4: _TEXT}),
    ("get", "/login"): Operation(),
    ("get", "/healthz"): Operation(content={"text/plain": {**_TEXT, "example": "ok\n"}}),
    ("get", "/readyz"): Operation(content={"text/plain": {**_TEXT, "example": "ready\n"}}),
}


def document(app: FastAPI) -> Json:
    """The document of an app's routes. Each of them must stand in `OPERATIONS`."""
    found: Json = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    found["components"]["securitySchemes"] = {
        "VaultToken": {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "A Vault token."}
    }
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            _complete(operation, OPERATIONS[method, path], needs_token=path.startswith(JOBS))
    return found


def _complete(operation: Json, more: Operation, *, needs_token: bool) -> None:
    if needs_token:
        operation["security"] = [{"VaultToken": []}]
    in_path = [parameter | JOB_ID for parameter in operation.get("parameters", ())]
    operation["parameters"] = [*in_path, *more.parameters]
    if more.body:
        operation["requestBody"]["required"] = True
        operation["requestBody"]["content"]["application/json"]["example"] = more.body
    answers: Json = operation["responses"]
    answers.pop("default", None)
    named = (int(code) for code, answer in answers.items() if code >= "400" and "text/plain" not in answer["content"])
    for code in {*named, *more.errors, *(JOB_ERRORS if needs_token else ())}:
        refusal = more.refusals.get(code) or RefusalError(code, ERROR_EXAMPLES[code])
        answers[str(code)] = _error(code, [refusal, NO_TOKEN] if needs_token and code == NO_TOKEN.code else [refusal])
    if more.content:
        answers["200"]["content"] = dict(more.content)
    elif more.example:
        answers["200"]["content"]["application/json"]["example"] = more.example
    operation["responses"] = dict(sorted(answers.items()))


def _error(code: int, refusals: Sequence[RefusalError]) -> Json:
    """An answer with an example for each `status` that its body can have."""
    examples = {
        refusal.title: {
            "summary": TITLES.get(refusal.title, ERRORS[code]),
            "value": json.loads(bytes(error_answer(refusal).body)),
        }
        for refusal in refusals
    }
    content = {"schema": {"$ref": "#/components/schemas/ErrorBody"}, "examples": examples}
    answer: Json = {"description": ERRORS[code], "content": {"application/json": content}}
    return answer | ({"headers": {"Retry-After": _RETRY_AFTER}} if code in _TEMPORARY else {})
