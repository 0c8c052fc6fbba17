"""What routes take: the caller, the services, and parameters."""

import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

from fastapi import Depends, Header, Path, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from stint.core.errors import UndecodableError
from stint.core.job import Job, State
from stint.core.names.ids import normalise_queue_name
from stint.ports import OutputLog
from stint.ports import Place as JobPlace
from stint_api.auth import Identity
from stint_api.read.job.lines import Position, beginning
from stint_api.read.listing.feed import Interest
from stint_api.read.listing.query import Page, Place, Wanted
from stint_api.routes.models.base import JOB_ID, Status
from stint_api.services import Services
from stint_api.submit.submitter import HEADER

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 100
_KEY: Final = re.compile(r"[ -~]{1,255}")
_CURSOR: Final = re.compile(r"(-?[0-9]{1,18})-([0-9a-f]{24})")


async def services(request: Request) -> Services:
    """The services of the application that received the request. Not `def`, which FastAPI would run in a thread."""
    found: Services = request.app.state.services
    return found


ServicesOf = Annotated[Services, Depends(services)]
TOKEN = APIKeyHeader(name="X-Auth-Token", scheme_name="VaultToken", description="A Vault token.", auto_error=False)


async def caller(request: Request, _token: Annotated[str | None, Security(TOKEN)]) -> Identity:
    """The caller. `Gate` has already checked the token with Vault, before the route was looked up."""
    identity: Identity = request.state.caller
    return identity


async def idempotency_key(
    keys: Annotated[
        list[str] | None,
        Header(alias=HEADER, description="A repeat with the same caller, key and body returns the same job."),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}),
    ] = None,
) -> str | None:
    """The request's key, None without one. All headers of this name are read, because a second one is an error."""
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise UndecodableError(f"The {HEADER} is not 1 to 255 printable ASCII characters.")
    return keys[0]


Caller = Annotated[Identity, Depends(caller)]
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]

JobId = Annotated[
    str, Path(description="The job's id.", examples=[JOB_ID], json_schema_extra={"pattern": "^[0-9a-fA-F]{24}$"})
]
"""Checked where the job is looked up, since answers repeat the id exactly as it was in the request."""
LastEventId = Annotated[
    str, Header(alias="Last-Event-ID", description="Continue after this event; any other text starts from the first.")
]


def _form(pattern: str, rule: str) -> BeforeValidator:
    """Accept text of this form only, where pydantic would accept more."""

    def check(value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return BeforeValidator(check)


def _time(value: object) -> object:
    """Accept RFC 3339 only, where pydantic would accept numbers too. A time without a zone is UTC."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value.upper())  # RFC 3339 allows `t` and `z`
    except ValueError:
        raise ValueError("must be an RFC 3339 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def cursor(place: Place | None) -> str:
    """The text of a place, for the parameter `cursor`; "" for none."""
    return f"{place.submitted}-{place.job_id}" if place else ""


Decimal = Annotated[int, _form(r"[0-9]{1,18}", "must be a number, in decimal digits")]
TrueOrFalse = Annotated[bool, _form("true|false", "must be true or false")]
PartOfId = Annotated[str, _form("[0-9a-fA-F]{1,24}", "must be 1 to 24 hex digits"), AfterValidator(str.lower)]
Time = Annotated[datetime, BeforeValidator(_time)]
# Any other text leaves the default.
Text = Annotated[str, Field(min_length=1, max_length=1000)]
OnlyIfTrue = Annotated[bool, BeforeValidator(lambda value: value in {True, "true"})]
UnlessFalse = Annotated[bool, BeforeValidator(lambda value: value not in {False, "false"})]


class ChangesQuery(BaseModel):
    """Which changes to tell."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    qname: Annotated[str, AfterValidator(normalise_queue_name)] | None = None
    """Only jobs of this queue."""
    status: Status | None = None
    """Only jobs that have this status, or had it until this change."""

    @property
    def interest(self) -> Interest:
        """What it asks for."""
        return Interest(qname=self.qname, status=State(self.status) if self.status else None)


class LinesQuery(BaseModel):
    """Where in a job's output to begin. Lines are counted from 1 over both streams, as they began."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tail: Decimal | None = Field(None, ge=0)
    """Begin with the last lines: so many. Events begin with the chunk in which the first of them begins."""
    from_line: Decimal | None = Field(None, ge=1)
    """Begin with this line; if there is none yet, with what comes next."""

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.tail is not None and self.from_line is not None:
            raise ValueError("tail and from_line exclude each other")
        return self

    async def beginning(self, output: OutputLog, job: Job) -> tuple[Position, int]:
        """The place that it asks for, and the first line; see `stint_api.read.job.lines.beginning`."""
        place = JobPlace(job.token, job.job_id)
        return await beginning(output, place, tail=self.tail, from_line=self.from_line)


class OutputQuery(LinesQuery):
    """Which part of a job's output."""

    stream: Literal["stdout", "stderr"] | None = None
    """Only this stream, and its part of these lines."""


class JobQuery(BaseModel):
    """Which jobs to list, and which page of them. Unknown parameters are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    skip: Decimal = Field(0, ge=0)
    """How many jobs to skip."""
    limit: Decimal = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    """Jobs per page."""
    qname: Annotated[str, AfterValidator(normalise_queue_name)] | None = None
    """Only jobs of this queue."""
    status: Status | None = None
    """Only jobs with this status."""
    held: TrueOrFalse | None = None
    """Only jobs that are held (`true`), or that are not (`false`)."""
    submitted_after: Time | None = None
    """Only jobs submitted after this time."""
    submitted_before: Time | None = None
    """Only jobs submitted before this time."""
    since: Time | None = None
    """Only jobs submitted at this time or later."""
    until: Time | None = None
    """Only jobs submitted before this time."""
    id: PartOfId | None = None
    """Only jobs whose id begins or ends like this: 1 to 24 hex digits."""
    image: Text | None = None
    """Only jobs whose image's name contains this."""
    who: Text | None = None
    """Only jobs that this display name submitted."""
    q: Text | None = None
    """Only jobs whose reason or error contains this, in upper or lower case."""
    counts: Annotated[bool, _form("[01]", "must be 0 or 1")] = False
    """`1` adds `counts`: how many jobs have each status and pass all filters but `status`."""
    output: OnlyIfTrue = False
    """`true` includes each job's output."""

    cursor: Annotated[str, _form(_CURSOR.pattern, "must be from the Link of another page")] | None = None
    """Only jobs behind this place. Follow `Link` from page to page: no job is repeated or left out as others come."""

    @property
    def page(self) -> Page:
        """The page that it asks for."""
        filters = {field.name: getattr(self, field.name) for field in fields(Wanted)}
        wanted = Wanted(**filters | {"status": State(self.status) if self.status else None})
        found = _CURSOR.fullmatch(self.cursor or "")
        behind = Place(int(found[1]), found[2]) if found else None
        return Page(wanted=wanted, skip=self.skip, limit=self.limit, behind=behind, counted=self.counts)
