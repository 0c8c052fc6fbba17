"""The application: its parts in, an ASGI app out."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from fastapi import FastAPI

import stint
from stint.core.errors import VaultError
from stint.core.subjects import new_job_id
from stint.ports import EventLog, OutputLog, PayloadStore
from stint.process.background import Background
from stint.process.health import readyz
from stint.process.settings import ApiSettings
from stint.vault import AppRoleSession, Vault
from stint_api.auth.authenticator import Authenticator
from stint_api.auth.tokens import Lookups
from stint_api.errors import JsonAnswer
from stint_api.middleware.gate import Gate
from stint_api.middleware.telemetry import Metrics, Telemetry
from stint_api.read.commands import Jobs
from stint_api.read.index import ListIndex
from stint_api.read.runners import JetStreamRunnerReports
from stint_api.routes import docs, info, jobs
from stint_api.routes.dependencies import Services
from stint_api.routes.exceptions import add_exception_handlers
from stint_api.routes.models import VaultInfoBody
from stint_api.routes.responses import ANY_ERROR
from stint_api.submit.body import MAX_BYTES
from stint_api.submit.sealing import Sealer
from stint_api.submit.storing import PATIENCE, Store
from stint_api.submit.submitter import Submitter
from stint_api.web.bounds import OpenStreams, RequestBytes


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def random_job_id() -> str:
    """A new id, ordered by time."""
    return new_job_id(time.time_ns() // 1_000_000, secrets.token_bytes(6))


def random_event_id() -> str:
    """A new id."""
    return uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the application is made of.

    Attributes:
        lookup_vault: the same server, asked about callers' tokens only: a flood of bad ones holds up nothing else.
        broker_up: whether NATS is connected at this moment.
        background: runs for as long as the application does.
        patience: see `stint_api.submit.storing.PATIENCE`.
        closing: set when the server is about to end.
        now, monotonic, new_job_id, new_event_id: clocks and sources of ids.
    """

    settings: ApiSettings
    log: EventLog
    payloads: PayloadStore
    output: OutputLog
    index: ListIndex
    runners: JetStreamRunnerReports
    vault: Vault
    lookup_vault: Vault
    session: AppRoleSession
    broker_up: Callable[[], bool]
    background: Background
    patience: float = PATIENCE
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    new_job_id: Callable[[], str] = random_job_id
    new_event_id: Callable[[], str] = random_event_id

    @property
    def retention(self) -> timedelta:
        """How long an ended job can be seen."""
        return timedelta(seconds=self.settings.retention)


def create_app(parts: Parts) -> FastAPI:
    """The whole API. Its background tasks run between the app's start-up and shut-down."""
    lookups = Lookups(parts.lookup_vault, monotonic=parts.monotonic)
    auth = Authenticator(lookups, parts.vault, parts.session, by_policy=parts.settings.by_policy)
    metrics = Metrics(parts.index.counts)
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
        lifespan=lambda _app: parts.background.running(),
    )
    app.state.services = _services(parts, auth, metrics)
    app.add_middleware(Gate, prefix=jobs.PATH, identify=auth.identify)
    app.add_middleware(Telemetry, metrics=metrics)  # the last one is the outermost
    add_exception_handlers(app)
    app.include_router(jobs.router)
    app.include_router(info.router)
    app.include_router(docs.router)
    return app


async def readiness(parts: Parts) -> str:
    """What is missing, "" if nothing is."""
    if not parts.broker_up():
        return "NATS is not reachable."
    if not await parts.vault.health():
        return "Vault is not reachable, not initialised or sealed."
    try:
        await parts.session.token()
    except VaultError:
        return "The API cannot log in to Vault."
    return parts.background.missing()


def _services(parts: Parts, auth: Authenticator, metrics: Metrics) -> Services:
    settings, compat = parts.settings, parts.settings.compat == "gostint"
    sealer = Sealer(vault=parts.vault, session=parts.session, role=settings.role, compat=compat)
    store = Store(
        vault=parts.vault,
        session=parts.session,
        log=parts.log,
        payloads=parts.payloads,
        sealer=sealer,
        now=parts.now,
        new_event_id=parts.new_event_id,
        patience=parts.patience,
    )
    return Services(
        submitter=Submitter(
            log=parts.log,
            payloads=parts.payloads,
            store=store,
            broker_up=parts.broker_up,
            retention=parts.retention,
            now=parts.now,
            new_job_id=parts.new_job_id,
        ),
        jobs=Jobs(
            log=parts.log,
            payloads=parts.payloads,
            output=parts.output,
            auth=auth,
            retention=parts.retention,
            now=parts.now,
            new_event_id=parts.new_event_id,
        ),
        request_bytes=RequestBytes(settings.request_bytes, largest=MAX_BYTES),
        streams=OpenStreams(settings.streams),
        index=parts.index,
        output=parts.output,
        auth=auth,
        runners=parts.runners,
        metrics=metrics,
        readyz=readyz(lambda: readiness(parts)),
        vault_info=VaultInfoBody(
            vault_addr=settings.vault_addr, vault_external_addr=settings.vault_external_addr or settings.vault_addr
        ),
        closing=parts.closing,
        stdout_only=compat,
    )
