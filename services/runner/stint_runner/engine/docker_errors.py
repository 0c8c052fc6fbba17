"""Docker's errors as Stint's, told apart by HTTP status."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import aiohttp
from aiodocker.exceptions import DockerError

from stint.core.errors import EngineError, EngineUnavailableError

_NO_CONNECTION: Final = 900
"""aiodocker's own status."""
_UNAVAILABLE: Final = frozenset(
    {_NO_CONNECTION, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
"""500 is not among them: it is Docker's answer to much that a job gets wrong, such as a working directory that is a
file, or content that puts a file where a folder is."""


@contextmanager
def engine_errors(*, done: Collection[int] = (), missing: type[EngineError] = EngineError) -> Iterator[None]:
    """Map what aiodocker and its connection raise.

    Args:
        done: statuses that say that there is nothing left to do.
        missing: the class for 404.

    Raises:
        EngineUnavailableError: no connection, a connection that broke, a time-out, or a gateway's error.
        EngineError: any other refusal, with the engine's words.
    """
    try:
        yield
    except DockerError as error:
        if error.status not in done:
            raise _refusal(error, missing) from None
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise EngineUnavailableError(
            f"The connection to the container engine failed: {type(error).__name__}."
        ) from None


def _refusal(error: DockerError, missing: type[EngineError]) -> EngineError:
    if error.status in _UNAVAILABLE:
        return EngineUnavailableError(f"The container engine is not available: {error.message}")
    if error.status == HTTPStatus.NOT_FOUND:
        return missing(error.message)
    return EngineError(error.message)
