"""A job's deadline on disk, renewed along with its lease."""

import msgspec
import structlog

from stint_runner.lease.leased_job import LeasedJob
from stint_runner.linux import boot_id, boot_time
from stint_runner.watchdog.deadlines import UNWATCHED, Deadline, Deadlines, StateError

log = structlog.get_logger()


class JobDeadline:
    """The deadline of one job, from its claim until nothing of it runs any more."""

    def __init__(self, deadlines: Deadlines, leased: LeasedJob) -> None:
        self._deadlines = deadlines
        self._leased = leased
        self._deadline: Deadline | None = None

    def begin(self, earlier: Deadline | None = None) -> None:
        """Let the watchdog watch the job, and extend the deadline with each renewal of its lease.

        `earlier` is what an earlier process of this runner left of a job that is adopted. Raises StateError if it
        cannot be written; or if no watchdog runs, and the job can wait.
        """
        if earlier is None and not self._deadlines.watched:
            raise StateError(UNWATCHED)
        lease = self._leased.lease
        deadline = Deadline(
            job_id=self._leased.address.job_id,
            ack_subject=lease.delivery.ack_subject,
            origin=lease.delivery.origin,
            process=self._deadlines.process,
            boot=boot_id(),
            seconds=lease.times.watchdog,
            hold=self._leased.holds,
            container_id=earlier.container_id if earlier else "",
            secrets_digest=earlier.secrets_digest if earlier else "",
            started=earlier.started if earlier else 0,
        )
        self._put(deadline)
        lease.on_confirmed = self._confirm

    def add_container(self, container_id: str, secrets_digest: str) -> None:
        """The job's container is about to be started.

        Raises:
            StateError: it cannot be written: the watchdog could not kill it while the engine does not answer.
        """
        if self._deadline:
            started = {"container_id": container_id, "secrets_digest": secrets_digest, "started": boot_time()}
            self._put(msgspec.structs.replace(self._deadline, **started))

    def drop(self) -> None:
        """Nothing of the job runs here any more. Safe to repeat."""
        if self._deadline:
            self._deadline = None
            self._deadlines.drop(self._leased.address.job_id)

    def _confirm(self, confirmed: float) -> None:
        """Extend it. If it has to change and cannot be written, that is tried again with each renewal."""
        if self._deadline is None:
            return
        delivery, seconds = self._leased.lease.delivery, self._leased.lease.times.watchdog
        as_it_is = {"ack_subject": delivery.ack_subject, "origin": delivery.origin, "seconds": seconds}
        deadline = msgspec.structs.replace(self._deadline, **as_it_is)
        if deadline != self._deadline:
            try:
                self._put(deadline)
            except StateError as error:
                log.error("deadline not written", error=error.sentence)  # noqa: TRY400 - a sentence says it
        if self._deadline.seconds <= seconds:  # otherwise the old one would let the job live too long
            self._deadlines.confirm(self._deadline.job_id, confirmed)

    def _put(self, deadline: Deadline) -> None:
        self._deadlines.put(deadline, self._leased.lease.confirmed)
        self._deadline = deadline
