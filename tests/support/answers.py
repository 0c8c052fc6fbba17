"""What an API answers."""

from typing import Any

import httpx


def json_of(answer: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer, which must be a 200."""
    assert answer.status_code == httpx.codes.OK, answer.text
    found: dict[str, Any] = answer.json()
    return found
