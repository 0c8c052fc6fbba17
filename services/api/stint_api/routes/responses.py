"""What a route's types do not describe: errors, bodies that it reads itself, and answers that are not JSON."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from stint.vault.actions import SUBMIT, refusal_text
from stint_api.errors import INVALID_REQUEST, RATE_LIMITED, RefusalError, error_answer
from stint_api.routes.models.base import ErrorBody
from stint_api.web.streaming import EVENT_STREAM

Responses = dict[int | str, dict[str, Any]]

_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds after which to try again. Only where a limit of the API itself is reached.",
        "schema": {"type": "integer"},
    }
}
NEXT_PAGE: Final = {
    "Link": {
        "description": 'The next page, if there is one: `<?...>; rel="next"`, relative to the request\'s own address.',
        "schema": {"type": "string"},
    }
}
_TEMPORARY: Final = (429, 503)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error: its HTTP status, an example of its sentence, and when it is answered."""

    code: int
    sentence: str
    when: str
    title: str = ""


NO_TOKEN: Final = "The token is missing, Vault's answer about it is unexpected, or the health key is wrong."
_ALERT: Final = "POSSIBLE SECURITY/INTERCEPTION ALERT!!! Failed to read cubbyhole from vault, error: permission denied"
_GONE: Final = "The job of this Idempotency-Key, 65f0c2a19b3e4d5f6a7b8c9d, was deleted."
_OTHER: Final = "The Idempotency-Key was used for another request."
KINDS: Final = (
    Kind(400, "Missing X-Auth-Token", NO_TOKEN, INVALID_REQUEST),
    Kind(400, "Invalid job ID (not ObjectIdHex).", "The request is wrong in any other way."),
    Kind(403, refusal_text(SUBMIT, "deploys"), "Vault refuses the token, or the token may not do this."),
    Kind(404, "not found", "There is no such job."),
    Kind(408, "The request's body comes too slowly.", "The request does not arrive in time, or too slowly."),
    Kind(409, _OTHER, _OTHER),
    Kind(
        410,
        _GONE,
        "The job of the Idempotency-Key was deleted or is no longer kept; or the payload to run again is not.",
    ),
    Kind(413, "The request is larger than 30 MiB.", "The request is too large."),
    Kind(
        429,
        RATE_LIMITED,
        "Vault takes no more requests for now, or the caller has too many event streams and large answers open.",
    ),
    Kind(500, _ALERT, "Something in Stint failed, or the cubbyhole cannot be read."),
    Kind(
        503,
        "NATS is not reachable or does not answer.",
        "NATS or Vault cannot be reached, or the API has too many requests or connections.",
    ),
)
"""Every kind of error, each with an example."""
BAD_HEALTH_KEY: Final = Kind(400, "Invalid health metric key", NO_TOKEN, INVALID_REQUEST)
ANY_ERROR: Final[Responses] = {"default": {"model": ErrorBody, "description": "Any other error."}}
"""For the whole application. Without it FastAPI would document a 422, which is never answered."""


def errors(*codes: int) -> Responses:
    """The errors of these statuses, for a route's `responses`."""
    return described(kind for kind in KINDS if kind.code in codes)


def described(kinds: Iterable[Kind]) -> Responses:
    """The errors of these kinds; a status may have several."""
    found: Responses = {}
    for kind in kinds:
        example = RefusalError(kind.code, kind.sentence, title=kind.title)
        answer = found.setdefault(kind.code, {"model": ErrorBody, "description": "", "content": {}})
        answer["description"] = f"{answer['description']} {kind.when}".strip()
        examples = answer["content"].setdefault("application/json", {}).setdefault("examples", {})
        body = json.loads(bytes(error_answer(example).body))
        examples[example.title] = {"summary": kind.when, "value": body}
        if kind.code in _TEMPORARY:
            answer["headers"] = _RETRY_AFTER
    return found


OF_BODY: Final[Responses] = errors(408, 413)
"""What a route that reads its body answers besides; see `stint_api.submit.body.read_body`."""


def json_body(schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    """A body that FastAPI does not read, because the route does, for a route's `openapi_extra`."""
    body = {"content": {"application/json": {"schema": schema}}}
    return {"requestBody": {"required": True, **body} if required else body}


def content(media_type: str, example: str, **schema: Any) -> Responses:
    """A successful answer that is not JSON, for a route's `responses`; without a schema it is text.

    The route's `response_class` must be `Response`: FastAPI would use the media type of any other for errors too.
    """
    return {200: {"content": {media_type: {"schema": schema or {"type": "string"}, "example": example}}}}


def sse(example: str, *names: str) -> Responses:
    """A stream of Server-Sent Events with these names, for a route's `responses`."""
    fields = {
        "event": {"type": "string", "enum": [*names]},
        "id": {"type": "string", "description": "For Last-Event-ID."},
        "data": {"type": "string", "contentMediaType": "application/json"},
    }
    event = {"description": "Each event of the stream.", "type": "object", "required": [*fields], "properties": fields}
    return content(EVENT_STREAM, example, **event)
