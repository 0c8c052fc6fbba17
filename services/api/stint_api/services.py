"""What the application is made of."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response

from stint.core.errors import VaultError
from stint.core.names.ids import new_job_id
from stint.jetstream import JetStreamOperations, JetStreamSignatures
from stint.ports import EventLog, KeptPayloads, OutputLog, Pauses, PayloadStore
from stint.process.background import Background
from stint.process.health import readyz
from stint.process.settings import ApiSettings
from stint.vault import BUS_KEY, RECEIPT_KEY, AppRoleSession, Encryptor, Oidc, Signer, Vault
from stint.vault.erasure import PayloadKeys
from stint_api.audit.index import AuditIndex
from stint_api.audit.lineage import Lineage
from stint_api.audit.receipt import Receipts
from stint_api.audit.trail import Audit
from stint_api.auth import Authenticator
from stint_api.lookups import Lookups
from stint_api.middleware.telemetry import Metrics
from stint_api.read.commands import Jobs
from stint_api.read.job.followed import FollowedJobs
from stint_api.read.listing.index import ListIndex
from stint_api.read.listing.lists import Lists
from stint_api.read.pausing import Pausing
from stint_api.read.phases import Phases
from stint_api.read.queues import QueueList
from stint_api.read.runners import Drains, JetStreamRunnerReports
from stint_api.read.standing import Standings
from stint_api.session.store import Sessions
from stint_api.submit.body import MAX_BYTES
from stint_api.submit.sealing import Sealer
from stint_api.submit.storing import PATIENCE, Store
from stint_api.submit.submitter import Submitter
from stint_api.web.bounds import OpenStreams, RequestBytes


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of one application: those that it is given, and those that it makes of them when they are first used.

    Attributes:
        lookup_vault: the same server, asked about callers' tokens only: a flood of bad ones holds up nothing else.
        signatures: None if NATS has no account for each role.
        broker_up: whether NATS is connected at this moment.
        background: runs for as long as the application does.
        patience: see `stint_api.submit.storing.PATIENCE`.
        closing: set when the server is about to end; live streams then end.
        now, monotonic, new_job_id: clocks and a source of ids.
    """

    settings: ApiSettings
    log: EventLog
    payloads: PayloadStore
    kept: KeptPayloads
    output: OutputLog
    pauses: Pauses
    operations: JetStreamOperations
    signatures: JetStreamSignatures | None
    index: ListIndex
    audit_index: AuditIndex
    runners: JetStreamRunnerReports
    phases: Phases
    drains: Drains
    sessions: Sessions
    vault: Vault
    lookup_vault: Vault
    session: AppRoleSession
    broker_up: Callable[[], bool]
    background: Background
    now: Callable[[], datetime]
    patience: float = PATIENCE
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    monotonic: Callable[[], float] = time.monotonic
    new_job_id: Callable[[], str] = lambda: new_job_id(time.time_ns() // 1_000_000, secrets.token_bytes(6))

    @property
    def retention(self) -> timedelta:
        """How long an ended job can be seen."""
        return timedelta(seconds=self.settings.retention)

    @property
    def compat(self) -> bool:
        """Behave as GoStint: `output` is stdout only, and job fields beside a sealed payload count."""
        return self.settings.compat == "gostint"

    @cached_property
    def lookups(self) -> Lookups:
        """Who a token belongs to."""
        return Lookups(self.lookup_vault, monotonic=self.monotonic)

    @cached_property
    def oidc(self) -> Oidc | None:
        """Sign-in by OIDC, None if it is not set up. Anybody can cause these calls, too."""
        settings = self.settings
        role = settings.oidc_role
        return Oidc(self.lookup_vault, mount=settings.oidc_mount, role=role) if role else None

    @cached_property
    def auth(self) -> Authenticator:
        """Who may do what."""
        return Authenticator(self.lookups, self.vault, self.session, by_policy=self.settings.by_policy)

    @cached_property
    def lists(self) -> Lists:
        """Lists jobs."""
        return Lists(self.index, self.auth, monotonic=self.monotonic)

    @cached_property
    def audit(self) -> Audit:
        """Says who did what."""
        return Audit(self.audit_index, self.log, self.operations, self.signatures, self.auth)

    @cached_property
    def lineage(self) -> Lineage:
        """Says which jobs got a secret."""
        return Lineage(self.audit_index, self.log, self.auth)

    @cached_property
    def receipts(self) -> Receipts:
        """Signs what became of jobs."""
        return Receipts(
            jobs=self.jobs,
            signer=Signer(self.vault, self.session, RECEIPT_KEY),
            signatures=self.signatures,
            now=self.now,
        )

    @cached_property
    def queues(self) -> QueueList:
        """Describes queues."""
        return QueueList(self.index, self.lists, self.runners, self.pauses, now=self.now)

    @cached_property
    def pausing(self) -> Pausing:
        """Pauses queues and resumes them."""
        return Pausing(
            log=self.log,
            pauses=self.pauses,
            auth=self.auth,
            operations=self.operations,
            now=self.now,
            new_operation_id=self.new_job_id,
        )

    @cached_property
    def standings(self) -> Standings:
        """Says why jobs wait."""
        return Standings(self.index, self.runners, self.pauses, self.phases)

    @cached_property
    def followed(self) -> FollowedJobs:
        """The jobs that somebody follows."""
        return FollowedJobs(self.log, self.output)

    @cached_property
    def keys(self) -> PayloadKeys | None:
        """The keys of payloads, None if `STINT_ERASURE` is off."""
        return PayloadKeys(self.vault, self.session) if self.settings.erasure == "on" else None

    @cached_property
    def submitter(self) -> Submitter:
        """Accepts submissions."""
        store = Store(
            vault=self.vault,
            tickets=Encryptor(self.vault, self.session, BUS_KEY),
            log=self.log,
            payloads=self.payloads,
            keys=self.keys,
            kept=self.kept,
            sealer=Sealer(
                vault=self.vault, payloads=Encryptor(self.vault, self.session, self.settings.role), compat=self.compat
            ),
            now=self.now,
            keep=self.settings.keep_payloads,
            patience=self.patience,
        )
        return Submitter(
            log=self.log,
            payloads=self.payloads,
            keys=self.keys,
            store=store,
            broker_up=self.broker_up,
            retention=self.retention,
            now=self.now,
            new_job_id=self.new_job_id,
        )

    @cached_property
    def jobs(self) -> Jobs:
        """Finds and changes jobs."""
        return Jobs(
            log=self.log,
            payloads=self.payloads,
            keys=self.keys,
            kept=self.kept,
            output=self.output,
            auth=self.auth,
            retention=self.retention,
            now=self.now,
        )

    @cached_property
    def request_bytes(self) -> RequestBytes:
        """The bytes of request bodies."""
        return RequestBytes(self.settings.request_bytes, largest=MAX_BYTES)

    @cached_property
    def streams(self) -> OpenStreams:
        """The callers' open streams."""
        return OpenStreams(self.settings.streams)

    @cached_property
    def metrics(self) -> Metrics:
        """What Prometheus reads."""
        return Metrics(self.index.counts, self.queues.unserved)

    @cached_property
    def readyz(self) -> Callable[[Request], Awaitable[Response]]:
        """Answers whether the API can do its work."""
        return readyz(self.missing)

    async def missing(self) -> str:
        """What is missing for the API's work, "" if nothing is."""
        if not self.broker_up():
            return "NATS is not reachable."
        if not await self.vault.health():
            return "Vault is not reachable, not initialised or sealed."
        try:
            await self.session.token()
        except VaultError:
            return "The API cannot log in to Vault."
        return self.background.missing()
