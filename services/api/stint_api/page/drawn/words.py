"""What is known, in words: the same as the script words.js says, which a test holds. Times are in seconds. Pure."""

import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from math import ceil, floor
from typing import Any, Final

from stint.core.job import TERMINAL
from stint.core.names.ids import queue_token
from stint.core.view import NEVER, parse_time, rfc3339
from stint.vault.policies import MARK

Fields = Mapping[str, Any]
"""A job as the API gives it."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
DECEIVING: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
"""Ranges of characters that turn text around, or cannot be seen: one name could look like another.

Joiners and variation selectors, which some scripts and emoji need, are not among them.
"""
_DECEIVING: Final = re.compile(f"[{DECEIVING}]")
_TWO_DAYS: Final = 48
"""Hours from which on days are told."""
_ONE_DECIMAL: Final = 9.95
"""From here on a figure has no decimal."""
_KILO: Final = 1000
_NEXT_UNIT: Final = 999.5

WORDS: Final[Mapping[str, str]] = {
    "": "",
    "queued": "Queued",
    "running": "Running",
    "stopping": "Stopping",
    "success": "Success",
    "failed": "Failed",
    "notauthorised": "Not authorised",
    "unknown": "Unknown",
    "held": "Held",
    "paused": "Paused",
    "active": "Active",
    "idle": "Idle",
    "norunner": "No runner",
    "alive": "Alive",
    "draining": "Draining",
    "lost": "Not heard",
}
"""The word of a status, by the name of its colour and shape."""
_WAITS: Final[Mapping[str, str]] = {
    "held": "; its queue is held",
    "paused": "; its queue is paused",
    "unserved": "; no runner serves this queue",
    "capacity": "; all runners are full",
}
_PHASES: Final[Mapping[str, str]] = {
    "opening": "Opening the job",
    "pulling": "Pulling the image",
    "creating": "Creating the container",
}
_REASONS: Final[Mapping[str, Callable[[Fields], str]]] = {
    "exit_code": lambda job: f"Exit code {job['return_code']}",
    "killed": lambda _: "Killed",
    "timeout": lambda _: "Timed out",
    "oom": lambda _: "Out of memory",
    "lost": lambda job: f"{job['node_uuid'] or 'Its runner'} was lost; nobody can say how it ended",
}


def at(time: str) -> float:
    """Seconds since 1970 of a time of the API, 0 for one that has not come."""
    return parse_time(time).timestamp() if time and time != NEVER else 0.0


def whole(time: str) -> str:
    """The whole time."""
    return rfc3339(parse_time(time)).replace("T", " ").replace("Z", " UTC")


def clock(time: str) -> str:
    """The time of day. Scripts show it in the zone of their machine, which the server does not know."""
    return f"{parse_time(time):%H:%M:%S} UTC"


def short(job_id: str) -> str:
    """The last eight digits of an id: its first ones are a time, which neighbours share."""
    return job_id[-8:]


def queue_path(qname: str) -> str:
    """A queue's page, whatever its name contains."""
    return f"/queues/{qname if _PLAIN.fullmatch(qname) else f'{MARK}{queue_token(qname)}'}"


def named(text: str) -> str:
    """The text with the names of deceiving characters in their places."""
    return _DECEIVING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def count(number: int, one: str) -> str:
    """A number of things."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time: "0.4 s", "9 s", "2 min 19 s", "3 h 5 min", "4 d"."""
    if seconds < _ONE_DECIMAL:
        return f"{_tenths(max(0.0, seconds))} s"
    minutes, rest = divmod(floor(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, rest_of_hour = divmod(minutes, 60)
    if not hours:
        return _rest(minutes, "min", rest, "s")
    return _rest(hours, "h", rest_of_hour, "min") if hours < _TWO_DAYS else f"{hours // 24} d"


def ago(seconds: float) -> str:
    """How long ago, roughly: "just now", "9 s ago", "5 min ago"."""
    rounded = floor(seconds + 0.5)
    if rounded <= 1:
        return "just now"
    minutes, hours = rounded // 60, rounded // 3600
    if not minutes:
        return f"{rounded} s ago"
    if not hours:
        return f"{minutes} min ago"
    return f"{hours} h ago" if hours < _TWO_DAYS else f"{hours // 24} d ago"


def size_of(number: int) -> str:
    """A number of bytes: "0 bytes", "6.1 KB", "64 MB"."""
    if number < _KILO:
        return count(number, "byte")
    size, units = number / _KILO, ["KB", "MB", "GB"]
    while size >= _NEXT_UNIT and len(units) > 1:
        size, units = size / _KILO, units[1:]
    return f"{_tenths(size) if size < _ONE_DECIMAL else floor(size + 0.5)} {units[0]}"


def is_over(job: Fields) -> bool:
    """Whether it has ended."""
    return job["status"] in TERMINAL


def kind(job: Fields) -> str:
    """How its status is drawn: a key of `WORDS`."""
    return "held" if job["held"] and not (job["back_since"] or is_over(job)) else str(job["status"])


def sentence(job: Fields, now: float = 0.0) -> str:
    """One sentence about a job, of what is known and no more. Without the time, it says nothing of a kill's grace."""
    if job["status"] == "queued":
        return f"{_ordinal(job['position'])} in line{_WAITS.get(job['waits_for'], '')}" if job["position"] else _TURN
    if kind(job) == "held":
        return f"{job['node_uuid']} was lost; the queue waits until it is back or the job is released"
    if job["status"] == "stopping":
        return _stopping(job, now)
    if job["status"] == "running":
        return _running(job)
    if job["status"] == "success":
        return _wrote(job)
    known = _REASONS.get(job["reason"])
    return known(job) if known else job["error"] or "It ended, and nobody recorded why"


_TURN: Final = "Waits for its turn"


def _stopping(job: Fields, now: float) -> str:
    asked, grace = at(job["kill_requested_at"]), job["kill_grace"]
    if not (now and grace and asked):
        return "A kill was requested; it has not ended yet"
    left = asked + grace - now
    if left > 0:
        return f"A kill was requested; SIGKILL in {duration(ceil(left))}"
    return "SIGKILL was due; it has not ended yet"


def _running(job: Fields) -> str:
    phase = _PHASES.get(job["phase"])
    if not phase:
        return "Its command runs" if job["container_id"] else "It is being prepared"
    return f"{phase}, {floor(100 * job['progress'])} %" if job["progress"] else phase


def _wrote(job: Fields) -> str:
    parts = [f"Wrote {size_of(job['output_bytes'])}" if job["output_bytes"] else "Wrote nothing"]
    if job["output_truncated"]:
        parts.append("the rest was dropped")
    if not job["output_complete"]:
        parts.append("not all of it is there")
    if job["output_masked"]:
        parts.append(f"{count(job['output_masked'], 'secret')} masked")
    return "; ".join(parts)


def _rest(much: int, unit: str, rest: int, part: str) -> str:
    return f"{much} {unit} {rest} {part}" if rest else f"{much} {unit}"


def _tenths(number: float) -> str:
    return f"{Decimal(number).quantize(Decimal('0.1'), ROUND_HALF_UP)}".replace(".0", "", 1)


def _ordinal(number: int) -> str:
    teens = 10 < number % 100 < 14  # noqa: PLR2004 - eleventh to thirteenth
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
