"""The routes that need no token: health and where Vault is."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from stint.job import State
from stint_api.answers import INVALID_REQUEST, JsonAnswer, RefusalError
from stint_api.index import ListIndex
from stint_api.runners import RunnerReports, summary
from stint_api.schemas import VaultInfoBody, responses

COUNTED: Final = tuple(state for state in State if state is not State.DELETED)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoRoutes:
    """The handlers. `closing` is set when the server is about to end."""

    index: ListIndex
    runners: RunnerReports
    closing: asyncio.Event
    vault_addr: str
    vault_external_addr: str

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter(tags=["service"])
        router.add_api_route("/v1/api/health", self.health, methods=["GET"], responses=responses(None, 400, 503))
        router.add_api_route("/v1/api/vault/info", self.vault_info, methods=["GET"], responses=responses(VaultInfoBody))
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

    async def _figures(self) -> dict[str, str]:
        counts = Counter(job.status for job in self.index.jobs())
        return {
            "state": "draining" if self.closing.is_set() else "active",
            "all_jobs": str(counts.total()),
            **{f"{state}_jobs": str(counts[state]) for state in COUNTED},
            **summary(await self.runners.read()),
        }
