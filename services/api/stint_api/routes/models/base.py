"""What bodies are made of, and what several of them have."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from stint.core.job import State
from stint_api.read.standing import WaitsFor

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
) -> type[BaseModel]:
    """A base class with the described fields of these structs; of those in `required` the default does not count.

    It is no `Body`: pydantic would look for its docstrings in the source of all modules being imported, for 20 ms.
    """
    found = {field.name: field for shape in shapes for field in msgspec.structs.fields(shape)}
    fields: dict[str, Any] = {
        name: _described(field, required=name in required) for name, field in found.items() if name not in leave_out
    }
    return create_model("Fields", **fields)


def _described(field: msgspec.structs.FieldInfo, *, required: bool) -> tuple[Any, Any]:
    meta: msgspec.Meta = field.type.__metadata__[-1]
    return field.type.__origin__, Field(
        ... if required or field.default is msgspec.NODEFAULT else field.default,
        alias=field.encode_name,
        description=meta.description,
        json_schema_extra=meta.extra_json_schema,
    )


class AsOf(Body):
    """What all lists from an index say."""

    now: Annotated[str, Field(examples=["2025-03-12T20:58:59.412Z"])]
    """The API's time."""
    as_of: Annotated[str, Field(examples=["2025-03-12T20:58:58.7Z"])]
    """Until when the index is complete."""


class ErrorBody(Body):
    """What every error answer in JSON holds."""

    status: str
    """The kind of error: the same text for the same HTTP status."""
    error: str
    """What is wrong. Never a secret."""
    job_id: Annotated[str, Field(pattern="^[0-9a-f]{24}$")] = Field("", alias="_id")
    """With a 503 where it is not known yet whether the request was taken: the job to look at. With a 410: the job that
    is gone."""
