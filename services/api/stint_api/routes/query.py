"""What a list request asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from stint.core.errors import UndecodableError
from stint.core.job import State
from stint.core.subjects import normalise_queue_name
from stint.core.view import JobView
from stint_api.read.index import submitted_at

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 100
_DIGITS: Final = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A page of the list, and which jobs belong in it. None means any."""

    skip: int = 0
    limit: int = DEFAULT_LIMIT
    output: bool = False
    qname: str | None = None
    status: State | None = None
    held: bool | None = None
    after: datetime | None = None
    before: datetime | None = None

    def wants(self, job: JobView) -> bool:
        """Whether a job is in the list."""
        if self.qname is not None and job.qname != self.qname:
            return False
        if self.status is not None and job.status is not self.status:
            return False
        if self.held is not None and job.held is not self.held:
            return False
        return self._in_time(submitted_at(job)) if self.after or self.before else True

    def _in_time(self, moment: datetime) -> bool:
        return (self.after is None or moment > self.after) and (self.before is None or moment < self.before)


def parse_query(params: Mapping[str, str]) -> Query:
    """Read query parameters; unknown ones are ignored.

    Raises:
        UndecodableError: names the parameter that is wrong.
        InvalidQueueNameError: no queue can have this name.
    """
    return Query(
        skip=_number(params, "skip", 0, 0, 10**_DIGITS),
        limit=_number(params, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        output=params.get("output") == "true",
        qname=normalise_queue_name(params["qname"]) if "qname" in params else None,
        status=_status(params["status"]) if "status" in params else None,
        held=_held(params["held"]) if "held" in params else None,
        after=_time(params, "submitted_after"),
        before=_time(params, "submitted_before"),
    )


def _number(params: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = params.get(name, str(default))
    good = text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    if not good or not least <= int(text) <= most:
        raise UndecodableError(
            f"{name} must be a number, {least} or more" + (f", {most} at most" if most <= MAX_LIMIT else "")
        )
    return int(text)


def _status(text: str) -> State:
    shown = [state for state in State if state is not State.DELETED]
    if text not in shown:
        raise UndecodableError(f"status must be one of {', '.join(shown)}")
    return State(text)


def _held(text: str) -> bool:
    if text not in {"true", "false"}:
        raise UndecodableError("held must be true or false")
    return text == "true"


def _time(params: Mapping[str, str], name: str) -> datetime | None:
    if name not in params:
        return None
    try:
        moment = datetime.fromisoformat(params[name])
    except ValueError:
        raise UndecodableError(f"{name} must be an RFC 3339 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
