"""The API's composition root."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from stint.core.names.subjects import JS_PREFIX
from stint.jetstream import (
    Access,
    Broker,
    EventSigner,
    JetStreamEventLog,
    JetStreamFacts,
    JetStreamKept,
    JetStreamKeyOwners,
    JetStreamOperations,
    JetStreamOutput,
    JetStreamPauses,
    JetStreamPayloads,
    JetStreamPhases,
    JetStreamSignatures,
    JetStreamViews,
    ServerClock,
    Streams,
    serve_output,
)
from stint.jetstream.signatures import KEPT, RENEWED
from stint.process import service
from stint.process.background import Background, BackgroundTask
from stint.process.health import watched
from stint.process.settings import ApiSettings
from stint.process.waiting import repeat
from stint.vault import AppRoleSession, Vault
from stint.vault.erasure import PayloadKeys
from stint_api.app import create_app
from stint_api.audit.index import AuditIndex
from stint_api.read.listing.index import ListIndex
from stint_api.read.phases import Phases
from stint_api.read.runners import JetStreamRunnerReports
from stint_api.services import Services
from stint_api.session.store import Sessions
from stint_api.submit.key_sweeper import KeySweeper
from stint_api.web.server import allow_connections, listen, serve, tls_context, write_port

log = structlog.get_logger()

LOOKUPS: Final = 16
"""Tokens that Vault is asked about at a time."""
SIGN_INS: Final = 16
"""Sign-ins by OIDC at a time."""
NO_STREAMS: Final = "Streams or buckets are missing in NATS."


def main() -> int:
    """Serve until a signal comes. 0 then, 2 if a setting is missing or wrong.

    On uvloop a connection's first bytes can be read before `LimitedProtocol` begins TLS, and are lost then.
    """
    return service.run(ApiSettings, _serve, on_asyncio=lambda settings: bool(settings.tls_cert))


async def _serve(settings: ApiSettings) -> None:
    tls_context(settings)  # a wrong certificate is told before anything else
    allow_connections(settings)
    vault = Vault(settings.vault_addr, cacert=settings.vault_cacert)
    session = AppRoleSession(vault, settings.api_role_id, settings.api_secret_id.get_secret_value())
    broker = Broker(Access.of(settings), prefix=settings.js_prefix, name="stint-api")
    services = build(settings, broker, vault, session)
    with listen(settings) as listener:
        if settings.port_report:
            write_port(Path(settings.port_report), listener)
        if not settings.by_policy:
            asked_by = "STINT_AUTHZ=any" if settings.authz == "any" else "STINT_COMPAT=gostint"
            log.warning(
                "every valid Vault token may do everything; STINT_AUTHZ=vault lets policies decide", asked_by=asked_by
            )
        broker.start()
        async with vault, services.lookup_vault, services.oidc_vault:
            try:
                async with watched(services.missing, services.background.failing):
                    await serve(create_app(services), listener, settings, services.closing, ending=broker.closed)
                broker.check_open()
            finally:
                await broker.close()
                await session.close()


def build(settings: ApiSettings, broker: Broker, vault: Vault, session: AppRoleSession) -> Services:
    """The parts, on real servers. Nothing is sent yet."""
    retention = timedelta(seconds=settings.retention)
    clock = ServerClock(broker)
    sessions = Sessions(broker, vault, session, now=clock.now)
    index = ListIndex(JetStreamViews(broker), connected=clock.known, retention=retention, now=clock.now)
    accounts = settings.js_prefix == JS_PREFIX
    signer = EventSigner(seed=Access.of(settings).seed if accounts else "")
    owners = JetStreamKeyOwners(broker, signer.nkey)
    audit_index = AuditIndex(
        JetStreamFacts(broker), owners, connected=broker.wait_connected, span=settings.audit_events, now=clock.now
    )
    phases = Phases(JetStreamPhases(broker), connected=broker.wait_connected)
    events = JetStreamEventLog(broker, signer, as_cloudevents=settings.as_cloudevents)
    payloads = JetStreamPayloads(broker)
    sweeper = KeySweeper(keys=PayloadKeys(session), payloads=payloads, log=events, now=clock.now)
    sweeping = BackgroundTask(name="key sweeper", run=sweeper.run, missing="Keys of payloads are not destroyed.")
    return Services(
        settings=settings,
        log=events,
        payloads=payloads,
        kept=JetStreamKept(broker),
        output=JetStreamOutput(broker),
        pauses=JetStreamPauses(broker),
        operations=JetStreamOperations(broker, as_cloudevents=settings.as_cloudevents),
        signatures=JetStreamSignatures(broker, owners) if accounts else None,
        index=index,
        audit_index=audit_index,
        runners=JetStreamRunnerReports(broker, now=clock.now),
        phases=phases,
        sessions=sessions,
        vault=vault,
        lookup_vault=Vault(settings.vault_addr, cacert=settings.vault_cacert, connections=LOOKUPS),
        oidc_vault=Vault(settings.vault_addr, cacert=settings.vault_cacert, connections=SIGN_INS),
        session=session,
        broker_up=broker.connected.is_set,
        now=clock.now,
        background=Background(
            *_following(Streams(broker, settings.replicas), clock, index, audit_index, phases, sessions),
            BackgroundTask(
                name="output requests", run=lambda: serve_output(broker), missing="Publishers cannot read output again."
            ),
            *([sweeping] if settings.erasure == "on" else []),
            *([_recording(broker, owners, settings.history)] if signer.seed else []),
        ),
    )


def _recording(broker: Broker, owners: JetStreamKeyOwners, history: float) -> BackgroundTask:
    """Keeps this key recorded as an API's, for other APIs and for the time after it is rotated."""

    async def record() -> None:
        await broker.wait_connected()
        await owners.record_own(ttl=KEPT * history)

    async def run() -> None:
        await repeat(record, lambda: min(RENEWED, history), failed="the API's key could not be recorded, retrying")

    return BackgroundTask(name="signing key", run=run, missing="The API's signing key is not recorded.")


def _following(
    streams: Streams, clock: ServerClock, index: ListIndex, audit_index: AuditIndex, phases: Phases, sessions: Sessions
) -> tuple[BackgroundTask, ...]:
    """The tasks by which this process knows what the streams have."""
    return (
        BackgroundTask(name="streams", run=streams.run, missing=NO_STREAMS, works=lambda: streams.whole),
        BackgroundTask(name="clock", run=clock.run, missing="The clock of NATS is not read."),
        BackgroundTask(
            name="index", run=index.run, missing="The list of jobs is not up to date.", works=index.ready.is_set
        ),
        BackgroundTask(name="phases", run=phases.run, missing="Reports on running jobs are not heard."),
        BackgroundTask(name="audit", run=audit_index.run, missing="The audit is not kept up to date."),
        BackgroundTask(
            name="sessions",
            run=sessions.run,
            missing="The sessions of the page are not followed.",
            works=sessions.following.is_set,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
