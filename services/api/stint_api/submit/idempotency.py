"""Idempotency-Key: the same caller, key and request are the same job, however often the request comes."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from stint.core.errors import UndecodableError
from stint.core.events import Submitted
from stint.core.job import Job
from stint_api.auth.authenticator import Identity
from stint_api.errors import RefusalError
from stint_api.submit.body import Submission

HEADER: Final = "Idempotency-Key"
_KEY: Final = re.compile(r"[ -~]{1,255}")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a request that may be repeated is known by.

    Attributes:
        job_id: of the job that it is, and will be.
        digest: of the request; another request with the same key has another.
    """

    job_id: str
    digest: str

    def check(self, job: Job) -> None:
        """Return if this request made the job.

        Raises:
            RefusalError: another one did.
        """
        submitted = job.fact(Submitted)
        if submitted is None or submitted.request_digest != self.digest:
            raise RefusalError(HTTPStatus.CONFLICT, f"The {HEADER} was used for another request.")


def read_key(keys: Sequence[str]) -> str | None:
    """The request's key, None without one. `keys` are all that it brought.

    Raises:
        UndecodableError: not 1 to 255 printable ASCII characters, or more than one key.
    """
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise UndecodableError(f"The {HEADER} is not 1 to 255 printable ASCII characters.")
    return keys[0]


def mark(identity: Identity, key: str, submission: Submission) -> Mark:
    """The job's id from caller and key, in the place of a new one."""
    framed = f"{len(identity.caller)} {identity.caller} {key}".encode()
    return Mark(hashlib.sha256(framed).hexdigest()[:24], submission.digest)
