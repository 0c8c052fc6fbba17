"""The application: its services in, an ASGI app out."""

from typing import Final

from fastapi import FastAPI

import stint
from stint_api.errors import JsonAnswer
from stint_api.middleware.gate import Gate, SignedIn
from stint_api.middleware.telemetry import Telemetry
from stint_api.page import asking, oidc, signing_in, views
from stint_api.routes import audit, changes, docs, info, jobs, queues, runners
from stint_api.routes.exceptions import add_exception_handlers
from stint_api.routes.responses import ANY_ERROR
from stint_api.services import Services

GUARDED: Final = (jobs.PATH, changes.PATH, queues.PATH, audit.AUDIT, audit.LINEAGE, audit.RECEIPT_KEYS, runners.PATH)
"""These paths, and all below them, need a token."""


def create_app(services: Services) -> FastAPI:
    """The whole API. Its background tasks run between the app's start-up and shut-down."""
    app = FastAPI(
        title="Stint",
        summary="Container jobs, one at a time per named queue.",
        version=stint.__version__,
        openapi_url=docs.DOCUMENT,
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
        Gate, paths=GUARDED, identify=services.auth.identify, addresses=services.settings.audit_addresses
    )
    app.add_middleware(SignedIn, sessions=services.sessions)
    app.add_middleware(Telemetry, metrics=services.metrics)  # the last one is the outermost
    add_exception_handlers(app)
    for part in (jobs, changes, queues, audit, runners, info, docs, signing_in, oidc, views, asking):
        app.include_router(part.router)
    return app
