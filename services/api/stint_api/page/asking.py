"""Changes without scripts: a page with the question, and a form that does what it asks about."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from stint.core.errors import InvalidJobIdError, InvalidQueueNameError, StintError
from stint.core.names.ids import check_job_id
from stint_api.auth import Identity
from stint_api.errors import RefusalError, refusal_of
from stint_api.page.drawn import words
from stint_api.page.signing_in import form_of, proven_session, sign_in_page
from stint_api.page.views import caller_of, show
from stint_api.read.queues import parse_reason
from stint_api.routes.fleet import drain, queue_named
from stint_api.routes.parameters import ServicesOf
from stint_api.services import Services

Form = Mapping[str, str]
Work = Callable[[Services, Identity, str, Form], Awaitable[object]]

NOT_LOOKED: Final = "Look first, and say so below: two jobs of the queue could run at the same time."
NO_REASON: Final = "Say why: all who see the queue read it."

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before something is done to {name}. `go` is what the button says.

    With `looked` one must say that one has looked at the runner, with `reason` one must say why.
    """

    title: str
    sentence: str
    go: str
    work: Work
    looked: bool = False
    reason: bool = False


async def _release(services: Services, caller: Identity, job_id: str, form: Form) -> None:
    if form.get("looked") != "on":
        raise RefusalError(HTTPStatus.BAD_REQUEST, NOT_LOOKED)
    await services.jobs.release(caller, job_id)


async def _pause(services: Services, caller: Identity, part: str, form: Form) -> None:
    reason = form.get("reason", "").strip()
    if not reason:
        raise RefusalError(HTTPStatus.BAD_REQUEST, NO_REASON)
    await services.pausing.pause(caller, await queue_named(part), parse_reason(json.dumps({"reason": reason}).encode()))


async def _resume(services: Services, caller: Identity, part: str, _form: Form) -> None:
    await services.pausing.resume(caller, await queue_named(part))


QUESTIONS: Final[Mapping[tuple[str, str], Question]] = {
    ("jobs", "kill"): Question(
        "Kill {name}?",
        "A job that waits never starts. One that runs gets SIGTERM now, and SIGKILL if it has not ended after its "
        "grace; what it did stays done. Then the next job of its queue starts.",
        "Kill {name}",
        lambda services, caller, name, _: services.jobs.kill(caller, name),
    ),
    ("jobs", "delete"): Question(
        "Delete {name}?",
        "A job that waits never starts. The output of one that is over goes with it, and nobody can read either again.",
        "Delete {name}",
        lambda services, caller, name, _: services.jobs.delete(caller, name),
    ),
    ("jobs", "release"): Question(
        "Release {name}?",
        "Its runner was lost. Nobody knows whether its container still runs. If it does and you release the job, two "
        "jobs of its queue run at the same time. Look on that machine first:",
        "Release {name}",
        _release,
        looked=True,
    ),
    ("queues", "pause"): Question(
        "Pause {name}?", "The job that runs goes on to its end. None starts after it.", "Pause it", _pause, reason=True
    ),
    ("queues", "resume"): Question(
        "Resume {name}?", "Its next job starts at once, if a runner is free.", "Resume it", _resume
    ),
    ("runners", "drain"): Question(
        "Drain {name}?",
        "It takes no more jobs. Those that it has go on to their end, and then its process ends. Whoever started it "
        "may start it again.",
        "Drain {name}",
        lambda services, caller, name, _: drain(services, caller, name),
    ),
}
"""By the first and the last part of the address."""


def _add(kind: str, what: str, question: Question) -> None:
    async def ask(services: ServicesOf, request: Request, name: str) -> Response:
        """The question. It reads nothing: what does not exist, or may not be done, is refused when it is to be done."""
        return await _ask(services, request, question, kind, name)

    async def do(services: ServicesOf, request: Request, name: str) -> Response:
        """Do it, if the page with the question sent this, and lead back to where one came from."""
        try:
            caller = await _proven(services, request, form := await form_of(request))
            if caller is None:
                return sign_in_page(services, request, ended=True)
            await question.work(services, caller, name, form)
        except StintError as error:
            return await _ask(services, request, question, kind, name, refusal_of(error))
        to = "/jobs" if what == "delete" else _back(kind, name)
        return RedirectResponse(to, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})

    path = f"/{kind}/{{name}}/{what}"
    router.add_api_route(path, ask, methods=["GET"], name=f"ask_{what}")
    router.add_api_route(path, do, methods=["POST"], name=f"do_{what}")


for (_kind, _what), _question in QUESTIONS.items():
    _add(_kind, _what, _question)


async def _proven(services: Services, request: Request, form: Form) -> Identity | None:
    """Whose session the form was sent with, None if it has ended. Raises RefusalError if its page did not send it."""
    session = await proven_session(services, request, form.get("csrf", ""))
    caller = await caller_of(services, session) if session else None
    if caller and services.settings.audit_addresses and request.client:
        return replace(caller, address=request.client.host)
    return caller


def _back(kind: str, name: str) -> str:
    return "/runners" if kind == "runners" else f"/{kind}/{quote(name, safe='=')}"


async def _ask(
    services: Services, request: Request, question: Question, kind: str, name: str, refusal: RefusalError | None = None
) -> Response:
    shown = words.short(name) if kind == "jobs" else name
    try:
        if kind == "queues":
            shown = await queue_named(name) or "the unnamed queue"
        elif kind == "jobs":
            check_job_id(name)
    except (InvalidQueueNameError, InvalidJobIdError) as error:
        refusal = refusal or refusal_of(error)
        name = name if kind == "queues" else ""  # it would be part of a command to be copied
    frame: dict[str, Any] = {"question": question, "shown": shown, "back": _back(kind, name), "name": name}
    return await show(services, request, "ask", refusal=refusal, **frame)
