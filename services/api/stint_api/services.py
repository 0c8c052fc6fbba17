"""What the application is made of."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

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
from stint_api.audit.receipt import Receipts
from stint_api.audit.trail import Audit
from stint_api.auth import Authenticator, Lookups
from stint_api.middleware.telemetry import Metrics
from stint_api.read.commands import Jobs
from stint_api.read.job.followed import FollowedJobs
from stint_api.read.listing.index import ListIndex
from stint_api.read.listing.lists import Lists
from stint_api.read.phases import Phases
from stint_api.read.queues import Pausing, QueueList
from stint_api.read.runners import JetStreamRunnerReports, Shared
from stint_api.read.standing import Standings
from stint_api.session.store import Sessions
from stint_api.submit.body import MAX_BYTES
from stint_api.submit.sealing import PATIENCE, Cubbyholes, Sealer
from stint_api.submit.storing import Store
from stint_api.submit.submitter import Submitter
from stint_api.web.bounds import OpenStreams, RequestBytes


@dataclass(kw_only=True, eq=False)
class Services:
    """The parts of one application: those that it is given, and those that it makes of them.

    Attributes:
        lookup_vault: the same server, asked about callers' tokens only: a flood of bad ones holds up nothing else.
        oidc_vault: the same server, asked to sign people in only: it waits for a provider, which may be slow.
        signatures: None if NATS has no account for each role.
        background: runs for as long as the application does.
        patience: see `stint_api.submit.sealing.PATIENCE`.
        closing: set when the server is about to end; live streams then end.
        retention: how long an ended job can be seen.
        compat: behave as GoStint: `output` is stdout only, and job fields beside a sealed payload count.
        oidc: None if sign-in by OIDC is not set up. Anybody can cause its calls to Vault, too.
        keys: of payloads; None if `STINT_ERASURE` is off.
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
    sessions: Sessions
    vault: Vault
    lookup_vault: Vault
    oidc_vault: Vault
    session: AppRoleSession
    broker_up: Callable[[], bool]
    background: Background
    now: Callable[[], datetime]
    patience: float = PATIENCE
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    monotonic: Callable[[], float] = time.monotonic
    new_job_id: Callable[[], str] = lambda: new_job_id(time.time_ns() // 1_000_000, secrets.token_bytes(6))

    def __post_init__(self) -> None:
        """Make the parts, first those that others are made of."""
        settings, vault, session = self.settings, self.vault, self.session
        self.retention = timedelta(seconds=settings.retention)
        self.compat = settings.compat == "gostint"
        self.lookups = Lookups(self.lookup_vault, monotonic=self.monotonic)
        role = settings.oidc_role
        self.oidc = Oidc(self.oidc_vault, mount=settings.oidc_mount, role=role) if role else None
        self.auth = Authenticator(self.lookups, vault, session, by_policy=settings.by_policy)
        self.keys = PayloadKeys(session) if settings.erasure == "on" else None
        self.jobs = self._jobs()
        self.submitter = self._submitter()
        self.lists = Lists(self.index, self.auth, monotonic=self.monotonic)
        self.standings = Standings(self.index, self.runners, self.pauses, self.phases)
        self.queues = QueueList(self.index, self.lists, self.runners, self.pauses, self.now)
        self.pausing = Pausing(
            log=self.log,
            pauses=self.pauses,
            auth=self.auth,
            operations=self.operations,
            now=self.now,
            new_operation_id=self.new_job_id,
        )
        self.followed = FollowedJobs(self.log, self.output)
        self.audit = Audit(self.audit_index, self.log, self.operations, self.signatures, self.auth)
        signer = Signer(session, RECEIPT_KEY)
        self.receipts = Receipts(jobs=self.jobs, signer=signer, signatures=self.signatures, now=self.now)
        self.request_bytes = RequestBytes(settings.request_bytes, largest=MAX_BYTES)
        self.streams = OpenStreams(settings.streams)
        self.unserved = Shared(self.queues.unserved, monotonic=self.monotonic)
        self.metrics = Metrics(self.index.counts, self.unserved, self.background.failing)
        self.readyz = readyz(self.missing, self.background.failing)

    def _jobs(self) -> Jobs:
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

    def _submitter(self) -> Submitter:
        payloads = Encryptor(self.session, self.settings.role)
        sealer = Sealer(vault=self.vault, payloads=payloads, compat=self.compat)
        store = Store(
            vault=self.vault,
            tickets=Encryptor(self.session, BUS_KEY),
            log=self.log,
            payloads=self.payloads,
            keys=self.keys,
            kept=self.kept,
            sealer=sealer,
            cubbyholes=Cubbyholes(sealer=sealer, patience=self.patience),
            now=self.now,
            keep=self.settings.keep_payloads,
        )
        return Submitter(
            log=self.log,
            store=store,
            broker_up=self.broker_up,
            retention=self.retention,
            now=self.now,
            new_job_id=self.new_job_id,
        )

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
