"""The parameters of routes: how they are parsed, checked and documented."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Header, Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from stint.core.subjects import normalise_queue_name
from stint.core.view import JobView
from stint_api.read.index import submitted_at
from stint_api.routes.models import JOB_ID, Status

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 100
_DIGITS: Final = re.compile(r"[0-9]{1,18}")

JobId = Annotated[
    str, Path(description="The job's id.", examples=[JOB_ID], json_schema_extra={"pattern": "^[0-9a-fA-F]{24}$"})
]
"""Checked where the job is looked up, since answers repeat the id exactly as it was in the request."""
LastEventId = Annotated[
    str,
    Header(alias="Last-Event-ID", description="Continue after this event; any other text starts from the first."),
]


def _decimal(value: object) -> object:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("must be a number, in decimal digits")
    return value


def _true_or_false(value: object) -> object:
    if isinstance(value, str) and value not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value


def _time(value: object) -> object:
    """Accept RFC 3339 only, where pydantic would accept numbers too. A time without a zone is UTC."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be an RFC 3339 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Decimal = Annotated[int, BeforeValidator(_decimal)]
Time = Annotated[datetime, BeforeValidator(_time)]
# Any other text leaves the default.
OnlyIfTrue = Annotated[bool, BeforeValidator(lambda value: value in {True, "true"})]
UnlessFalse = Annotated[bool, BeforeValidator(lambda value: value not in {False, "false"})]


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
    held: Annotated[bool, BeforeValidator(_true_or_false)] | None = None
    """Only jobs that are held (`true`), or that are not (`false`)."""
    submitted_after: Time | None = None
    """Only jobs submitted after this time."""
    submitted_before: Time | None = None
    """Only jobs submitted before this time."""
    output: OnlyIfTrue = False
    """`true` includes each job's output."""

    def wants(self, job: JobView) -> bool:
        """Whether the job passes the filters."""
        if self.qname is not None and job.qname != self.qname:
            return False
        if self.status is not None and job.status != self.status:
            return False
        if self.held is not None and job.held is not self.held:
            return False
        return self._in_time(submitted_at(job)) if self.submitted_after or self.submitted_before else True

    def _in_time(self, moment: datetime) -> bool:
        after, before = self.submitted_after, self.submitted_before
        return (after is None or moment > after) and (before is None or moment < before)
