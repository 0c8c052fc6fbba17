"""The dependencies of routes: the caller, the services, and a submission whose size is limited."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Request, Security
from fastapi.security import APIKeyHeader
from pydantic import WithJsonSchema

from stint_api.auth.authenticator import Identity
from stint_api.services import Services
from stint_api.submit.body import Submission, parse_submission, read_body
from stint_api.submit.submitter import HEADER, read_key


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
