"""Views for tests."""

from stint.core.job import State
from stint.core.view import NEVER, JobView


def job_view(
    number: int, *, qname: str = "a", status: str = "queued", ended: str = NEVER, held: bool = False
) -> JobView:
    return JobView(
        job_id=f"{number:024x}",
        status=State(status),
        node_uuid="",
        qname=qname,
        container_image="busybox",
        container_id="",
        submitted=f"2026-01-01T00:00:{number:02d}{'.5' if number % 2 else ''}Z",
        started=NEVER,
        ended=ended,
        return_code=0,
        tty=False,
        kill_requested=False,
        reason="",
        error="",
        submitted_by="",
        output_bytes=0,
        output_complete=True,
        output_truncated=False,
        output_masked=0,
        held=held,
        sequence=number,
    )
