"""The routes that need no token: health, metrics, where Vault is, and the way to the page."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import create_model
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from stint.core.job import State
from stint.process.health import Readiness, healthz, readyz
from stint_api.errors import INVALID_REQUEST, JsonAnswer, RefusalError
from stint_api.middleware.metrics import Metrics
from stint_api.read.index import ListIndex
from stint_api.read.runners import NUMBERS, WORDS, RunnerReports, summary
from stint_api.routes.schemas import Responses, VaultInfoBody, responses

_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
READYZ: Final = "Whether the API can do its work, and if not what is missing."
READY: Final[Responses] = {
    200: {"description": "It can do its work."},
    503: {"description": "It cannot: says what is missing.", "content": _TEXT},
}
COUNTED: Final = tuple(state for state in State if state is not State.DELETED)
_KEYS: Final = ("all_jobs", *(f"{state}_jobs" for state in COUNTED), *NUMBERS, *WORDS)
_FIELDS: Final[dict[str, Any]] = {"state": Literal["active", "draining"], **dict.fromkeys(_KEYS, str)}
HealthBody: Final = create_model("HealthBody", **_FIELDS)
"""Counts of jobs, and figures of the runners' engines: all of them text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoRoutes:
    """The handlers. `closing` is set when the server is about to end."""

    index: ListIndex
    runners: RunnerReports
    metrics: Metrics
    readiness: Readiness
    closing: asyncio.Event
    vault_addr: str
    vault_external_addr: str

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter(tags=["service"])
        add = router.add_api_route
        add("/v1/api/health", self.health, methods=["GET"], responses=responses(HealthBody, 400, 503))
        add("/v1/api/vault/info", self.vault_info, methods=["GET"], responses=responses(VaultInfoBody))
        add("/v1/api/metrics", self.metrics.endpoint, methods=["GET"], name="metrics", responses=responses(None))
        add("/healthz", healthz, methods=["GET"], responses=responses(None))
        add("/readyz", readyz(self.readiness), methods=["GET"], name="readyz", description=READYZ, responses=READY)
        add(
            "/login",
            self.login,
            methods=["GET"],
            status_code=HTTPStatus.MOVED_PERMANENTLY,
            response_class=Response,
            response_description="At `/`.",
        )
        return router

    async def health(self, request: Request) -> Response:
        """Counts of jobs and figures of the runners' engines, all as text; with `k` only that value."""
        figures = await self._figures()
        if "k" not in request.query_params:
            return JsonAnswer(figures)
        value = figures.get(request.query_params["k"])
        if value is None:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "Invalid health metric key", title=INVALID_REQUEST)
        return PlainTextResponse(value)

    async def vault_info(self) -> Response:
        """Where Vault is, for clients."""
        external = self.vault_external_addr or self.vault_addr
        return JsonAnswer({"vault_addr": self.vault_addr, "vault_external_addr": external})

    async def login(self) -> Response:
        """The page is at `/`."""
        return RedirectResponse("/", status_code=HTTPStatus.MOVED_PERMANENTLY)

    async def _figures(self) -> dict[str, str]:
        counts = self.index.counts().by_status
        return {
            "state": "draining" if self.closing.is_set() else "active",
            "all_jobs": str(sum(counts.values())),
            **{f"{state}_jobs": str(counts.get(state, 0)) for state in COUNTED},
            **summary(await self.runners.read()),
        }
