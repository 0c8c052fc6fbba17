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
from stint.vault import AppRoleSession, Vault
from stint_api.auth.authenticator import Authenticator
from stint_api.auth.tokens import Lookups
from stint_api.errors import JsonAnswer
from stint_api.middleware.access import write_line
from stint_api.middleware.gate import Gate
from stint_api.middleware.measured import Measured
from stint_api.middleware.metrics import Metrics
from stint_api.read.commands import Jobs
from stint_api.read.index import ListIndex
from stint_api.read.runners import RunnerReports
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
        role: the transit key that seals payloads.
        retention: how long an ended job can be seen.
        by_policy: Vault's policies decide who may do what.
        compat: behave as GoStint does where Stint differs: `output` is stdout only, job fields beside a sealed payload
            count.
        request_bytes: how many bytes of request bodies may be held at a time.
        streams: how many event streams a caller may have open.
        patience: see `stint_api.submit.storing.PATIENCE`.
        closing: set when the server is about to end.
        now, monotonic, new_job_id, new_event_id: clocks and sources of ids.
    """

    log: EventLog
    payloads: PayloadStore
    output: OutputLog
    index: ListIndex
    runners: RunnerReports
    vault: Vault
    lookup_vault: Vault
    session: AppRoleSession
    broker_up: Callable[[], bool]
    role: str
    retention: timedelta
    request_bytes: int
    streams: int
    vault_addr: str
    vault_external_addr: str = ""
    by_policy: bool = True
    compat: bool = False
    patience: float = PATIENCE
    background: Background = field(default_factory=Background)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    new_job_id: Callable[[], str] = random_job_id
    new_event_id: Callable[[], str] = random_event_id


def create_app(parts: Parts) -> FastAPI:
    """The whole API. Its background tasks run between the app's start-up and shut-down."""
    lookups = Lookups(parts.lookup_vault, monotonic=parts.monotonic)
    auth = Authenticator(lookups, parts.vault, parts.session, by_policy=parts.by_policy)
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
    app.add_middleware(Measured, tell=(metrics.count, write_line))  # the last one is the outermost
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
    return Services(
        submitter=Submitter(
            log=parts.log,
            payloads=parts.payloads,
            store=_store(parts),
            broker_up=parts.broker_up,
            retention=parts.retention,
            now=parts.now,
            new_job_id=parts.new_job_id,
        ),
        request_bytes=RequestBytes(parts.request_bytes, largest=MAX_BYTES),
        streams=OpenStreams(parts.streams),
        jobs=Jobs(
            log=parts.log,
            payloads=parts.payloads,
            output=parts.output,
            auth=auth,
            retention=parts.retention,
            now=parts.now,
            new_event_id=parts.new_event_id,
        ),
        index=parts.index,
        output=parts.output,
        auth=auth,
        runners=parts.runners,
        metrics=metrics,
        readyz=readyz(lambda: readiness(parts)),
        vault_info=VaultInfoBody(
            vault_addr=parts.vault_addr, vault_external_addr=parts.vault_external_addr or parts.vault_addr
        ),
        closing=parts.closing,
        stdout_only=parts.compat,
    )


def _store(parts: Parts) -> Store:
    return Store(
        vault=parts.vault,
        session=parts.session,
        log=parts.log,
        payloads=parts.payloads,
        sealer=Sealer(vault=parts.vault, session=parts.session, role=parts.role, compat=parts.compat),
        now=parts.now,
        new_event_id=parts.new_event_id,
        patience=parts.patience,
    )
