"""The fields that every event has."""

import secrets
from datetime import UTC, datetime
from typing import Any

from stint.core.view import rfc3339

WRITER = "fake"
"""Who writes all events of a `FakeStint`, and runs its jobs."""


def written() -> dict[str, Any]:
    """Those of an event that is written now."""
    return {"event_id": secrets.token_hex(8), "at": rfc3339(datetime.now(UTC)), "by": WRITER}
