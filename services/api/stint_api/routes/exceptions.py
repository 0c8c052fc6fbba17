"""Exception handlers: they turn what a route raises into the contract's answers."""

from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stint.core.errors import StintError, UndecodableError
from stint_api.errors import RefusalError, error_answer, unknown_path
from stint_api.middleware.telemetry import routes_at


def add_exception_handlers(app: FastAPI) -> None:
    """Answer each error with the error body. Only an unknown path or method is answered without it."""
    app.add_exception_handler(StintError, _on_stint_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_stint_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, StintError):
        raise error
    return error_answer(error)


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    """Invalid parameters. The sentence names them, never their values."""
    if not isinstance(error, RequestValidationError):
        raise error
    wrong = (f"{found['loc'][-1]}: {found['msg'].removeprefix('Value error, ')}" for found in error.errors())
    return error_answer(UndecodableError("; ".join(wrong)))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Errors of routing (an unknown path or method), and HTTP errors that a route raises itself."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        routes = routes_at(request.app.routes, request.scope["path"])
        allowed = {method for route in routes for method in route.methods or ()}
        return Response(status_code=error.status_code, headers={"Allow": ", ".join(sorted(allowed))})
    if "endpoint" not in request.scope:
        return unknown_path()
    return error_answer(RefusalError(error.status_code, error.detail))
