"""What FastAPI cannot see of the routes of jobs, for the document: bodies that it does not read, and streams."""

from typing import Final

from stint_api.routes.models.jobs import RerunBody, SubmitBody
from stint_api.routes.responses import Responses, content, events

BODY: Final = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": SubmitBody.model_json_schema()}}}
}
"""Described here because FastAPI does not read the body: `submit` does."""
RERUN_BODY: Final = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": RerunBody.model_json_schema()}}}
}
_EVENTS: Final = """\
event: fact
id: 17-0-0
data: {"kind":"submitted","at":"2025-03-12T20:58:57.412Z","sequence":17,"status":"queued",\
"by":"token-stint-client","by_entity":"","by_accessor":"iT2fxqiZQyQVWDSWUvGwHV4l"}

event: output
id: 19-4-1
data: {"number":1,"offset":0,"stream":"stdout","data":"aGVsbG8K",\
"at":"2025-03-12T20:58:57.951Z","line":1,"continues":false}

"""
STREAM_OF_EVENTS: Final[Responses] = events(_EVENTS, "fact", "phase", "output", "end", "refused")

BYTES: Final = "application/octet-stream"
"""Not text: output is in no encoding that anybody could name, and may be an archive."""
OUTPUT: Final[Responses] = content(BYTES, "hello\n", type="string", format="binary")
