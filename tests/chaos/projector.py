"""A projector, with the fault that `CHAOS_PLANT` names if it is one of these."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from stint.jetstream import Delivered, JetStreamPayloads
from stint.process import service
from stint.process.settings import ProjectorSettings
from stint_projector.__main__ import serve
from stint_projector.follower import Changes, Folder
from tests.chaos.plan import PLANT

_fold = Folder.fold


def _fold_some(self: Folder, events: Sequence[Delivered]) -> Changes:
    """Of every other job only the submission is looked at."""
    changes = _fold(self, events)
    folded = [known for known in changes.folded if not _is_left_out(known.job.job_id) or len(known.job.facts) == 1]
    return Changes(folded, {job_id: at for job_id, at in changes.unknown.items() if not _is_left_out(job_id)})


def _is_left_out(job_id: str) -> bool:
    return int(job_id, 16) % 2 == 1


async def _purge_nothing(*_: object, **__: object) -> None:
    """Payloads of jobs that are over stay."""


PLANTS: Final = {
    "event skipped": (Folder, "fold", _fold_some),
    "payload kept": (JetStreamPayloads, "purge", _purge_nothing),
}
"""What is put in the place of a method."""


async def run(settings: ProjectorSettings) -> None:
    if planted := PLANTS.get(os.environ[PLANT]):
        setattr(*planted)
    await serve(settings)


if __name__ == "__main__":
    sys.exit(service.run(ProjectorSettings, run))
