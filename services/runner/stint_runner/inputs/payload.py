"""A payload, from what was sealed to what is to be run."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from stint.core.errors import JobFailedError, UndecodableError, VaultDeniedError, VaultError, VaultUnavailableError
from stint.core.submission.payload import JobPayload, merge, parse_payload

SMALL: Final = 64 * 1024  # bytes of a payload that take less than a millisecond to read
NOT_MERGED: Final = "The payload has job fields beside it, which only runners with STINT_COMPAT=gostint take."
NOT_DECRYPTED: Final = "Failed to decrypt payload via vault"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open payload. `request_refs` are secret references that stood beside it; any other source wins over them."""

    job: JobPayload = field(repr=False)
    request_refs: tuple[str, ...] = ()


async def open_payload(
    sealed: bytes, qname: str, decrypt: Callable[[str], Awaitable[bytes]], *, compat: bool
) -> Opened:
    """Decrypt and read a payload. With `compat` a second line may have the job fields that stood beside it.

    Raises JobFailedError, or what `decrypt` raises: VaultDeniedError, VaultUnavailableError.
    """
    lines = sealed.rstrip().split(b"\n", 1 + compat)
    if len(lines) > 1 + compat:
        raise bad_payload(NOT_MERGED)
    try:
        payload, *request = [await _parsed(await decrypt(line.decode())) for line in lines]
    except (VaultDeniedError, VaultUnavailableError):
        raise
    except VaultError as error:
        raise bad_payload(f"{NOT_DECRYPTED}: {error.sentence}") from None
    except UndecodableError as error:
        raise bad_payload(f"Failed unmarshaling json from payload: {error.sentence}") from None
    except UnicodeDecodeError:
        raise bad_payload(f"{NOT_DECRYPTED}: not a ciphertext.") from None
    if payload.qname.lower() != qname:
        raise bad_payload(f"payload qname and job request qname do not match: '{payload.qname.lower()}' != '{qname}'")
    return Opened(merge(payload, request[0]), request[0].secret_refs) if request else Opened(payload)


async def _parsed(payload: bytes) -> JobPayload:
    """A large one is read in a thread, so that it does not hold up the heartbeats of other jobs."""
    return parse_payload(payload) if len(payload) <= SMALL else await asyncio.to_thread(parse_payload, payload)


def bad_payload(sentence: str) -> JobFailedError:
    """The end of a job whose payload cannot be run."""
    return JobFailedError(sentence, reason="payload")
