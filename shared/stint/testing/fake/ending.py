"""How a job of a `FakeStint` ends, and the fields of every event that it writes."""

import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from stint.core.events import Ended, Launched
from stint.core.job import State
from stint.core.output.chain import Chain
from stint.core.submission.payload import JobPayload
from stint.core.view import rfc3339

WRITER = "fake"
"""Who writes all events of a `FakeStint`, and runs its jobs."""

_RAN: Final = frozenset({"", "exit_code", "killed", "timeout", "oom", "lost"})
"""The reasons of jobs whose container existed."""


def written() -> dict[str, Any]:
    """Those of an event that is written now."""
    return {"event_id": secrets.token_hex(8), "at": rfc3339(datetime.now(UTC)), "by": WRITER}


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a job of `FakeStint` ends.

    Attributes:
        return_code: of its command.
        output: what it wrote to standard output.
        stderr: what it wrote to standard error, after that.
        reason: the API's word for it if no command ran or it was stopped, such as `image` or `timeout`.
        error: the reason in words.
        versions: of the job's secrets, by `path.key`, as its lineage shows them. One that is not named here has none,
            as if it were not in a KV engine of version 2.
    """

    return_code: int = 0
    output: bytes = b""
    stderr: bytes = b""
    reason: str = ""
    error: str = ""
    versions: Mapping[str, int] = {}

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        return (pair for pair in (("stdout", self.output), ("stderr", self.stderr)) if pair[1])

    def launched(self, job: JobPayload) -> Launched | None:
        """The container with the job's secrets, None if there was none."""
        if self.reason not in _RAN:
            return None
        secrets = dict.fromkeys(reference.partition("@")[2] for reference in job.secret_refs)
        return Launched(
            **written(),
            container_id="f" * 64,
            container_image=job.container_image,
            tty=job.tty,
            secrets={name: self.versions.get(name) for name in secrets},
        )

    def event(self, image: str) -> Ended:
        """The end, as a runner records it."""
        chain = Chain()
        for _, data in self.chunks():
            chain = chain.add(data)
        return Ended(
            **written(),
            status=State.FAILED if self.return_code or self.reason else State.SUCCESS,
            reason=self.reason or ("exit_code" if self.return_code else ""),
            error=self.error,
            return_code=self.return_code,
            container_image=image,
            chunks=chain.chunks,
            output_bytes=chain.size,
            output_digest=chain.digest,
            output_complete=True,
        )
