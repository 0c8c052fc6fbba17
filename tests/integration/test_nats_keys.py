"""Users that NATS knows by a key: a seed, or a credentials file that an operator gave out."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nkeys
from structlog.testing import capture_logs

from stint.jetstream import Access, Broker
from stint.natsauth.callout.jwt import signed
from tests.support.servers import NatsProcess, running
from tests.support.waiting import until_true

UNLIMITED = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1) | {"wildcards": True}
STREAMS = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def pair(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def public(keys: nkeys.KeyPair) -> str:
    return str(keys.public_key.decode())


def seed(keys: nkeys.KeyPair) -> str:
    return str(keys.seed.decode())


def token(signer: nkeys.KeyPair, subject: nkeys.KeyPair, name: str, claims: Mapping[str, Any]) -> str:
    body = {"sub": public(subject), "name": name, "nats": {"version": 2, **claims}}
    return signed(body, bytes(signer.seed))


async def connects(access: Access) -> bool:
    """Whether it does, or hears that it may not."""
    broker = Broker(access)
    with capture_logs() as logs:
        broker.start()
        try:
            await until_true(
                lambda: broker.connected.is_set() or any("NATS refuses" in str(line.get("error")) for line in logs)
            )
            return broker.connected.is_set() and "error" not in await broker.api("INFO")
        finally:
            await broker.close()


async def test_a_credentials_file_opens_nats(tmp_path: Path) -> None:
    operator, account, system = (
        pair(prefix) for prefix in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
    )
    user, another = pair(nkeys.PREFIX_BYTE_USER), pair(nkeys.PREFIX_BYTE_USER)
    root = token(operator, operator, "operator", {"type": "operator", "system_account": public(system)})
    accounts = {
        public(account): token(operator, account, "jobs", {"type": "account", "limits": UNLIMITED | STREAMS}),
        public(system): token(operator, system, "SYS", {"type": "account", "limits": UNLIMITED}),
    }
    card = token(account, user, "runner", {"type": "user", "subs": -1, "data": -1, "payload": -1})
    preload = ", ".join(f"{name}: {value}" for name, value in accounts.items())
    settings = (
        f"operator: {root}\nresolver: MEMORY\nresolver_preload: {{ {preload} }}\nsystem_account: {public(system)}"
    )
    async with running(nats := NatsProcess(tmp_path / "nats", settings=settings)):
        assert await connects(Access(url=nats.url, creds=credentials(card, user)))
        assert not await connects(Access(url=nats.url, creds=credentials(card, another)))


def credentials(card: str, user: nkeys.KeyPair) -> str:
    """A credentials file as `nsc` writes it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{card}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed(user)}\n------END USER NKEY SEED------\n"
    )


async def test_a_user_with_a_key_is_known_again_after_a_restart(tmp_path: Path) -> None:
    user = pair(nkeys.PREFIX_BYTE_USER)
    settings = f"authorization {{ users: [{{ nkey: {public(user)} }}] }}"
    async with running(nats := NatsProcess(tmp_path / "nats", settings=settings)):
        broker = Broker(Access(url=nats.url, nkey=seed(user)))
        broker.start()
        await broker.wait_connected()
        lost = broker.lost
        await nats.restart()
        async with asyncio.timeout(30):
            await lost.wait()
            await broker.wait_connected()
        await broker.close()
