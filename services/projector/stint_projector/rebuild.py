"""`stint rebuild`: computes the view from the log again, job by job, and removes views that belong to no job."""

import sys
from typing import Final

import stamina

from stint.core.errors import BrokerUnavailableError, ConfigError, StreamMissingError
from stint.core.names.ids import is_job_id
from stint.jetstream import Access, Broker, ServerClock, declare
from stint.jetstream.wire.requests import DeniedError
from stint.process import service
from stint.process.settings import ProjectorSettings
from stint.process.waiting import for_each
from stint_projector.__main__ import build
from stint_projector.project import CONCURRENCY, Projector

FORBIDDEN: Final = (
    "NATS does not permit this to the user: `stint rebuild` needs the operator's key in STINT_NATS_NKEY_FILE, "
    "and no STINT_JS_PREFIX."
)


def _may_come_back(error: Exception) -> bool:
    return isinstance(error, BrokerUnavailableError) and not isinstance(error, DeniedError)


_patiently: Final = stamina.AsyncRetryingCaller(attempts=None, timeout=None).on(_may_come_back)


async def rebuild(projector: Projector) -> int:
    """Compute the whole view again; returns the number of jobs. Projectors may run meanwhile.

    Each view is replaced or deleted. The bucket is never purged, because NATS does not notify its followers of a purge.
    While NATS is away it waits, and then goes on where it was.
    """

    async def renew(key: str) -> None:
        await _patiently(projector.rebuild if is_job_id(key) else projector.views.delete, key)

    jobs = await _patiently(_job_ids, projector)
    await for_each(jobs, renew, at_once=CONCURRENCY)
    # The jobs of other views were submitted meanwhile, no longer exist, or never existed.
    others = set(await _patiently(projector.views.job_ids)) - jobs.keys()
    await for_each(others, renew, at_once=CONCURRENCY)
    return len(jobs)


async def _job_ids(projector: Projector) -> dict[str, None]:
    """In the order in which the log has their events."""
    return {job_id: None async for job_id in projector.log.job_ids()}


async def serve(settings: ProjectorSettings) -> None:
    """Rebuild the view, and print the number of jobs. Raises ConfigError if NATS does not permit it to the user."""
    broker = Broker(Access.of(settings), prefix=settings.js_prefix, name="rebuild")

    async def work() -> int:
        await broker.wait_connected()
        await _patiently(declare, broker, settings.replicas)
        clock = ServerClock(broker)
        await clock.known()
        return await rebuild(build(settings, broker, clock))

    async with broker:
        try:
            count = await broker.while_open(work())
        except DeniedError:
            raise ConfigError(FORBIDDEN) from None
        except StreamMissingError as error:
            raise ConfigError(f"{error.sentence} Start `stint rebuild` again.") from None
    sys.stdout.write(f"The view was computed again from {count} jobs.\n")


def main() -> int:
    """The process's exit code."""
    return service.run(ProjectorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
