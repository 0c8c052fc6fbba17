"""A projector, with the fault that `CHAOS_PLANT` names if it is one of these."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from stint.jetstream import Delivered, JetStreamPayloads
from stint.process import service
from stint.process.settings import ProjectorSettings
from stint_projector.__main__ import serve
from stint_projector.follower import Changes, Folder
from tests.chaos.plan import PLANT


def _event_skipped() -> None:
    """Of every other job only the submission is looked at."""
    fold = Folder.fold

    def fold_some(self: Folder, events: Sequence[Delivered]) -> Changes:
        changes = fold(self, events)
        folded = [known for known in changes.folded if not _is_left_out(known.job.job_id) or len(known.job.facts) == 1]
        return Changes(folded, {job_id: at for job_id, at in changes.unknown.items() if not _is_left_out(job_id)})

    Folder.fold = fold_some  # type: ignore[method-assign]


def _is_left_out(job_id: str) -> bool:
    return int(job_id, 16) % 2 == 1


def _payload_kept() -> None:
    """Payloads of jobs that are over stay."""

    async def purge(self: JetStreamPayloads, token: str, job_id: str, *, through: int | None = None) -> None:
        del self, token, job_id, through

    JetStreamPayloads.purge = purge  # type: ignore[method-assign]


PLANTS: Final[Mapping[str, Callable[[], None]]] = {"event skipped": _event_skipped, "payload kept": _payload_kept}


async def run(settings: ProjectorSettings) -> None:
    if break_it := PLANTS.get(os.environ[PLANT]):
        break_it()
    await serve(settings)


if __name__ == "__main__":
    sys.exit(service.run(ProjectorSettings, run))
