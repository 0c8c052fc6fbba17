"""Exception handlers: they turn what a route raises into the contract's answers."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from stint.core.errors import StintError, UndecodableError
from stint_api.errors import RefusalError, error_answer, unknown_path
from stint_api.middleware.telemetry import routes_at


def invalid(errors: Iterable[Mapping[str, Any]]) -> UndecodableError:
    """What pydantic found to be wrong. The sentence names the parameters, never their values."""
    wrong = (f"{found['loc'][-1]}: {found['msg'].removeprefix('Value error, ')}" for found in errors)
    return UndecodableError("; ".join(wrong))


def add_exception_handlers(app: FastAPI) -> None:
    """Answer each error with the error body. Only an unknown path or method is answered without it."""

    @app.exception_handler(StintError)
    async def on_stint_error(_request: Request, error: StintError) -> Response:
        return error_answer(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_parameters(_request: Request, error: RequestValidationError) -> Response:
        return error_answer(invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        """Errors of routing (an unknown path or method), and HTTP errors that a route raises itself."""
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            routes = routes_at(request.app.routes, request.scope["path"])
            allowed = {method for route in routes for method in route.methods or ()}
            return Response(status_code=error.status_code, headers={"Allow": ", ".join(sorted(allowed))})
        if "endpoint" not in request.scope:
            return unknown_path()
        return error_answer(RefusalError(error.status_code, error.detail))
