"""The dependencies of routes: the caller, the services, and a submission whose size is bounded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import WithJsonSchema
from starlette.responses import Response

from stint.ports import OutputLog
from stint_api.auth.authenticator import Authenticator, Identity
from stint_api.middleware.telemetry import Metrics
from stint_api.read.commands import Jobs
from stint_api.read.index import ListIndex
from stint_api.read.runners import JetStreamRunnerReports
from stint_api.routes.models import VaultInfoBody
from stint_api.submit.body import Submission, parse_submission, read_body
from stint_api.submit.submitter import HEADER, Submitter, read_key
from stint_api.web.bounds import OpenStreams, RequestBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The objects that do the work of the routes. Each application keeps its own in `app.state.services`.

    Attributes:
        readyz: answers whether the API can do its work.
        closing: set when the server is shutting down; live streams then end.
        stdout_only: a job's `output` is stdout only, as GoStint has it.
    """

    submitter: Submitter
    request_bytes: RequestBytes
    streams: OpenStreams
    jobs: Jobs
    index: ListIndex
    output: OutputLog
    auth: Authenticator
    runners: JetStreamRunnerReports
    metrics: Metrics
    readyz: Callable[[Request], Awaitable[Response]]
    vault_info: VaultInfoBody
    closing: asyncio.Event
    stdout_only: bool


def services(request: Request) -> Services:
    """The services of the application that received the request."""
    found: Services = request.app.state.services
    return found


ServicesOf = Annotated[Services, Depends(services)]
TOKEN = APIKeyHeader(name="X-Auth-Token", scheme_name="VaultToken", description="A Vault token.", auto_error=False)


def caller(request: Request, _token: Annotated[str | None, Security(TOKEN)]) -> Identity:
    """The caller. `Gate` has already checked the token with Vault, before the route was looked up."""
    identity: Identity = request.state.caller
    return identity


def idempotency_key(
    keys: Annotated[
        list[str] | None,
        Header(alias=HEADER, description="A repeat with the same caller, key and body returns the same job."),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}),
    ] = None,
) -> str | None:
    """The request's key. All headers of this name are read, because a second one is an error."""
    return read_key(keys or ())


async def submission(
    request: Request, parts: ServicesOf, identity: Annotated[Identity, Depends(caller)]
) -> AsyncIterator[Submission]:
    """The body. It is read here, not by FastAPI: as JSON whatever its Content-Type, and within bounds.

    Its bytes count towards the limit until the route returns.
    """
    with parts.request_bytes.share(identity.caller) as share:
        yield parse_submission(await read_body(request, share), scanned=True)


Caller = Annotated[Identity, Depends(caller)]
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
Submitted = Annotated[Submission, Depends(submission, scope="function")]
