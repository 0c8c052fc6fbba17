"""The application: its services in, an ASGI app out."""

from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import stint
from stint.core.errors import StintError
from stint_api.errors import JsonAnswer, RefusalError, error_answer, invalid, unknown_path
from stint_api.middleware.gate import Gate
from stint_api.middleware.telemetry import Telemetry, routes_at
from stint_api.page import asking, oidc, signing_in, views
from stint_api.routes import audit, fleet, info, jobs
from stint_api.routes.responses import ANY_ERROR
from stint_api.services import Services

GUARDED: Final = (jobs.PATH, jobs.CHANGES, fleet.QUEUES, audit.AUDIT, audit.LINEAGE, audit.RECEIPT_KEYS, fleet.RUNNERS)
"""These paths, and all below them, need a token."""


def create_app(services: Services) -> FastAPI:
    """The whole API. Its background tasks run between the app's start-up and shut-down."""
    app = FastAPI(
        title="Stint",
        summary="Container jobs, one at a time per named queue.",
        version=stint.__version__,
        openapi_url=info.DOCUMENT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        default_response_class=JsonAnswer,
        responses=ANY_ERROR,
        lifespan=lambda _app: services.background.running(),
    )
    app.state.services = services
    app.add_middleware(
        Gate,
        paths=GUARDED,
        sessions=services.sessions,
        identify=services.auth.identify,
        addresses=services.settings.audit_addresses,
    )
    app.add_middleware(Telemetry, metrics=services.metrics)  # the last one is the outermost
    _add_exception_handlers(app)
    of_api = (jobs.router, jobs.of_all, fleet.queues, audit.router, fleet.runners, info.router)
    for router in (*of_api, signing_in.router, oidc.router, views.router, asking.router):
        app.include_router(router)
    return app


def _add_exception_handlers(app: FastAPI) -> None:
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
