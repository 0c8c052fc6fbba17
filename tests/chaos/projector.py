"""A projector, with the fault that `CHAOS_PLANT` names if it is one of these."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

from stint.jetstream import JetStreamPayloads
from stint.process import service
from stint.process.settings import ProjectorSettings
from stint_projector.__main__ import serve
from stint_projector.project import Projector
from tests.chaos.plan import PLANT


def _event_skipped() -> None:
    """Every other job is looked at only once."""
    project = Projector.project

    async def project_some(self: Projector, job_id: str, *, create: bool, at_least: int = 0) -> int:
        if not create and int(job_id, 16) % 2:
            return at_least
        return await project(self, job_id, create=create, at_least=at_least)

    Projector.project = project_some  # type: ignore[method-assign]


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
