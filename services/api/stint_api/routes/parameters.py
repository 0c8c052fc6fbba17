"""What routes take besides their body: read, checked and described in one place."""

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
"""Checked where the job is looked for: an answer repeats it as it was in the request."""
LastEventId = Annotated[
    str, Header(alias="Last-Event-ID", description="Go on behind this event; from the beginning, if it is none.")
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
    """Those of RFC 3339, where pydantic would take numbers too; without a zone in UTC."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be an RFC 3339 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Decimal = Annotated[int, BeforeValidator(_decimal)]
Time = Annotated[datetime, BeforeValidator(_time)]
# Any other word leaves the default.
OnlyIfTrue = Annotated[bool, BeforeValidator(lambda value: value in {True, "true"})]
UnlessFalse = Annotated[bool, BeforeValidator(lambda value: value not in {False, "false"})]


class JobQuery(BaseModel):
    """A page of the list, and which jobs belong in it. Parameters that are not known are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    skip: Decimal = Field(0, ge=0)
    """Leave out this many."""
    limit: Decimal = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    """Jobs a page."""
    qname: Annotated[str, AfterValidator(normalise_queue_name)] | None = None
    """Only of this queue."""
    status: Status | None = None
    """Only in this status."""
    held: Annotated[bool, BeforeValidator(_true_or_false)] | None = None
    """Only those that are held, or that are not."""
    submitted_after: Time | None = None
    """Only later than this."""
    submitted_before: Time | None = None
    """Only earlier than this."""
    output: OnlyIfTrue = False
    """With their output."""

    def wants(self, job: JobView) -> bool:
        """Whether a job is in the list."""
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
