"""The routes under /v1/api/runner. Every caller of them has shown a valid token."""

from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path

from stint.core.audit.operations import DrainRequested
from stint.core.job import State
from stint.core.view import NEVER, parse_time, rfc3339
from stint.vault.actions import DRAIN
from stint_api.auth import Identity
from stint_api.errors import RefusalError
from stint_api.read.listing.query import Page, Wanted
from stint_api.read.runners import NUMBERS, WORDS, number_of
from stint_api.routes.models.fleet import DrainedBody, RunnerBody, RunnersBody
from stint_api.routes.parameters import Caller, ServicesOf
from stint_api.routes.responses import errors
from stint_api.services import Services

PATH: Final = "/v1/api/runner"
RUNNING: Final = 1000
"""Jobs that are told at most: the last submitted."""

RunnerName = Annotated[str, Path(max_length=128, description="The runner's name.")]

router = APIRouter(prefix=PATH, tags=["runners"], responses=errors(400, 403, 429, 500, 503))


@router.get("")
async def list_runners(services: ServicesOf, caller: Caller) -> RunnersBody:
    """The runners that reported within a day and did not leave in order: those that are alive first."""
    reports = sorted(await services.runners.all(), key=lambda report: (not report["alive"], report["runner"]))
    running = await _running(services, caller)
    data = [_body(report, running[report["runner"]]) for report in reports]
    now = rfc3339(services.now())
    return RunnersBody(data=data, now=now, as_of=now)


@router.post("/{runner}/drain", status_code=HTTPStatus.ACCEPTED, responses=errors(404))
async def drain(services: ServicesOf, caller: Caller, runner: RunnerName) -> DrainedBody:
    """Ask a runner to take no more jobs. Its process ends when the last one has ended; the list shows that it heard."""
    await services.auth.require(caller, DRAIN, runner)
    if runner not in {report["runner"] for report in await services.runners.read()}:
        raise RefusalError(HTTPStatus.NOT_FOUND, "No runner of this name is alive.")
    asked = DrainRequested(**caller.stamp(services.now()), runner=runner)
    await services.operations.record(asked, services.new_job_id())  # first: nothing is done that is not recorded
    await services.runners.drain(runner, caller.name)
    return DrainedBody(runner=runner, asked=True)


async def _running(services: Services, caller: Identity) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for status in (State.RUNNING, State.STOPPING):
        page = await services.lists.find(caller, Page(wanted=Wanted(status=status), limit=RUNNING))
        for job in page.jobs:
            found[job.node_uuid].append(job.job_id)
    return found


def _body(report: Mapping[str, Any], running: list[str]) -> RunnerBody:
    """Anybody who may report can write anything: what is not of the right kind is left out."""
    engine = {name: int(number_of(report[name])) for name in NUMBERS if name in report}
    words = {name: str(report[name]) for name in WORDS if name in report}
    queues = report.get("queues")
    return RunnerBody(
        runner=str(report["runner"]),
        alive=report["alive"],
        last_seen=report["last_seen"],
        draining=report.get("draining") is True,
        drained_by=str(report.get("drained_by") or ""),
        capacity=int(number_of(report.get("capacity"))),
        kill_grace=number_of(report.get("kill_grace")),
        running=running,
        queues=[str(pattern) for pattern in queues] if isinstance(queues, list) else [],
        engine=engine | words,
        version=str(report.get("version") or ""),
        started=_moment(report.get("started")),
    )


def _moment(value: object) -> str:
    try:
        return rfc3339(parse_time(str(value)))
    except (ValueError, OverflowError):
        return NEVER
