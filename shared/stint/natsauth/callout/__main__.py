"""Runs the service: `python -m stint.natsauth.callout` or `stint nats-auth`."""

import asyncio
import sys
from typing import Final

import structlog

from stint.core.errors import ConfigError
from stint.core.names.subjects import JS_PREFIX
from stint.jetstream import Access, Broker, JetStreamKeyOwners
from stint.jetstream.signatures import KEPT
from stint.natsauth.callout.admissions import Admissions
from stint.natsauth.callout.connections import Connections
from stint.natsauth.callout.curve import CurveKey
from stint.natsauth.callout.jwt import public_key_of
from stint.natsauth.callout.keyed import PoolQueues, key_users
from stint.natsauth.callout.rates import Rates
from stint.natsauth.callout.service import Callout, Logins
from stint.process import health, service
from stint.process.background import Background, BackgroundTask
from stint.process.settings import NatsAuthSettings
from stint.process.signals import on_signals
from stint.vault import Vault

log = structlog.get_logger()

VAULT_TIMEOUT: Final = 2.0  # seconds for each step of a call: a client waits for it, and NATS not for long


def build(settings: NatsAuthSettings, broker: Broker, vault: Vault, rates: Rates, admissions: Admissions) -> Callout:
    """The service on these connections. Raises ConfigError if a seed, or the list of users, is malformed."""
    issuer = settings.nats_auth_issuer.get_secret_value()
    try:
        public_key_of(issuer, "A")
    except ValueError:
        raise ConfigError("STINT_NATS_AUTH_ISSUER: not the seed of a NATS account.") from None
    try:
        xkey = CurveKey(settings.nats_auth_xkey.get_secret_value())
    except ValueError:
        raise ConfigError("STINT_NATS_AUTH_XKEY: not the seed of an xkey.") from None
    return Callout(
        broker=broker,
        vault=vault,
        logins=Logins(settings.nats_auth_logins),
        rates=rates,
        admissions=admissions,
        users=key_users(settings.nats_auth_users),
        pools=PoolQueues(broker),
        owners=JetStreamKeyOwners(broker),
        issuer=issuer.encode(),
        xkey=xkey,
        maximum=settings.nats_auth_seconds,
        kept=KEPT * settings.history,
    )


async def serve(settings: NatsAuthSettings) -> None:
    """Answer the servers until SIGTERM or SIGINT. Raises BrokerClosedError if the connection was closed for good."""
    broker = Broker(Access.of(settings), name="nats-auth", prefix=JS_PREFIX)
    vault = Vault(settings.vault_addr, cacert=settings.vault_cacert, timeout=VAULT_TIMEOUT)
    rates, admissions = Rates(settings.nats_auth_rate), Admissions()
    callout, connections = build(settings, broker, vault, rates, admissions), Connections(broker, rates, admissions)
    background = Background(
        BackgroundTask(name="callout", run=callout.run, missing="Logins are not answered."),
        BackgroundTask(name="rates", run=connections.run, missing="Publishers' rates are not limited."),
    )
    stopping = asyncio.Event()

    async def readiness() -> str:
        if not broker.client.is_connected:
            return "NATS is not reachable."
        return (
            background.missing() or admissions.missing() or ("" if await vault.health() else "Vault is not reachable.")
        )

    async def work() -> None:
        await broker.wait_connected()
        log.info("nats-auth ready")
        await background.run()

    async with vault, on_signals(stopping.set), health.serve(settings.health_port, readiness, background.failing):
        await broker.serve(work(), stopping)
    log.info("nats-auth stopped")


def main() -> int:
    """The process's exit code."""
    return service.run(NatsAuthSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
