"""What is stored of a submission, and what a runner opens of it."""

import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any

import pytest

from stint.core.codec import encode
from stint.core.errors import JobFailedError, VaultError
from stint.core.events import TEXT_LENGTH
from stint.core.submission.payload import JobPayload
from stint.vault import Ticket
from stint_api.submit.body import LONGEST_TOKEN
from stint_runner.inputs.opening import Opener
from stint_runner.inputs.payload import Opened
from tests.support.api_bench import SEALED, Bench, api
from tests.support.events import utc_now
from tests.support.servers import BaoProcess, NatsProcess
from tests.support.submissions import Client, in_cubbyhole, opened, stored, submitted
from tests.support.vault_bench import ROLE, wrapped_secret_id

MIB = 1 << 20
PLAIN: dict[str, Any] = {"payload": "", "container_image": "busybox"}


async def test_the_ticket_binds_the_payload_and_only_a_runner_opens_it(bench: Bench) -> None:
    wrapped = await wrapped_secret_id(bench.vault, bench.root)
    job = await bench.load(await bench.submitted(wrap_secret_id=wrapped, qname="Deploys"))
    assert wrapped not in encode(submitted(job)).decode()
    payload, ticket = await stored(bench, job)
    assert (payload, ticket.wrap_secret_id) == (SEALED.encode(), wrapped)
    expires = (await bench.vault.wrap_info(wrapped)).expires_at.astimezone(UTC)
    assert ticket.wrap_expires_at == expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("word", ["", "advance", "hold"])
@pytest.mark.parametrize("fields", [{}, PLAIN], ids=["sealed", "plain"])
async def test_on_lost_is_recorded(bench: Bench, word: str, fields: dict[str, Any]) -> None:
    assert submitted(await bench.load(await bench.submitted(on_lost=word, **fields))).on_lost == word


async def test_the_cubbyhole_goes_before_the_payload_and_an_empty_job_is_one(bench: Bench) -> None:
    other = "vault:v1:b3RoZXI="
    token = await bench.cubbyhole({"payload": other})
    job = await bench.load(await bench.submitted(cubby_token=token, cubby_path="cubbyhole/job"))
    assert (await stored(bench, job))[0] == other.encode()
    empty = await bench.load(await bench.submitted(payload=None))
    assert (await opened(bench, empty, "deploys")).job == JobPayload(qname="deploys")


async def test_content_may_have_16_mib(bench: Bench) -> None:
    content = os.urandom(16 * MIB)
    job = await bench.load(await bench.submitted(payload="", content=f"targz,{base64.b64encode(content).decode()}"))
    assert submitted(job).payload_bytes > 16 * MIB * 16 // 9
    await stored(bench, job)
    more = f"targz,{base64.b64encode(content + b'xxx').decode()}"
    answer = await bench.submit(payload="", content=more)
    assert (answer.status_code, "16 MiB" in answer.json()["error"]) == (413, True)
    assert (await bench.submit(content=more)).is_success  # beside a sealed payload it does not count


async def test_what_an_event_names_is_bounded(bench: Bench) -> None:
    image = "x" * 100_000
    job = await bench.load(await bench.submitted(**PLAIN | {"container_image": image}))
    assert submitted(job).container_image == image[:TEXT_LENGTH]
    assert (await opened(bench, job, "deploys")).job.container_image == image
    answer = await bench.submit(wrap_secret_id="x" * (LONGEST_TOKEN + 1))
    assert (answer.status_code, "wrap_secret_id" in answer.json()["error"]) == (413, True)


async def sealed(bench: Bench, **fields: Any) -> str:
    return await bench.vault.encrypt(bench.root, ROLE, json.dumps(fields).encode())


OWN = {"container_image": "other", "run": ["env"], "env_vars": ["A=1"], "secret_refs": ["B@kv/b.x"], "tty": True}


@pytest.mark.parametrize("through", ["payload", "cubbyhole"])
async def test_the_requests_fields_fill_the_payload(compat: Bench, through: str) -> None:
    payload = await sealed(compat, qname="Deploys", container_image="busybox", secret_refs=["A@kv/a.x"])
    fields = {"payload": payload} if through == "payload" else await in_cubbyhole(compat, payload)
    job = await compat.load(await compat.submitted(**fields, **OWN))
    merged = JobPayload(
        qname="Deploys", container_image="busybox", run=("env",), env_vars=("A=1",), secret_refs=("A@kv/a.x",), tty=True
    )
    assert await opened(compat, job, "deploys") == Opened(merged, ("B@kv/b.x",))
    with pytest.raises(JobFailedError, match="STINT_COMPAT=gostint") as refused:
        await opened(compat, job, "deploys", compat=False)
    assert refused.value.reason == "payload"
    with pytest.raises(JobFailedError, match="do not match: 'deploys' != 'x'"):
        await opened(compat, job, "x")


async def test_the_payloads_queue_is_not_filled(compat: Bench) -> None:
    job = await compat.load(await compat.submitted(payload=await sealed(compat, container_image="busybox"), **OWN))
    with pytest.raises(JobFailedError, match="do not match: '' != 'deploys'"):
        await opened(compat, job, "deploys")


async def test_nobody_else_adds_a_line(compat: Bench, bench: Bench) -> None:
    for bad in (f"{SEALED}\n{SEALED}", f"{SEALED}\n", f"\n{SEALED}"):
        for one in (compat, bench):
            assert (await one.submit(payload=bad)).status_code == 400
            assert (await one.submit(**await in_cubbyhole(one, bad))).status_code == 400
    three = "\n".join([await sealed(compat, qname="deploys")] * 3).encode()
    opener = Opener(vault=compat.vault, session=compat.parts.session, role=ROLE, role_id="", compat=True, now=utc_now)
    ticket = Ticket(wrap_secret_id="", payload_sha256=hashlib.sha256(three).hexdigest())
    with pytest.raises(JobFailedError):
        await opener.payload(three, ticket, "deploys")


@asynccontextmanager
async def quota(bench: Bench, path: str) -> AsyncIterator[None]:
    """Vault takes no more requests there during the block."""
    limit = {"path": path, "rate": 1, "interval": "600s"}
    await bench.admin(lambda client: client.adapter.post("/v1/sys/quotas/rate-limit/test", json=limit))
    with pytest.raises(VaultError):  # the one that is free
        await bench.vault.read("no-such-token", f"{path}/x")
    yield
    await bench.admin(lambda client: client.adapter.delete("/v1/sys/quotas/rate-limit/test"))


async def test_vaults_rate_limit_is_a_429_and_spends_nothing(nats: NatsProcess, bao_process: BaoProcess) -> None:
    async with api(nats.url, bao_process) as limited:
        client, fields = Client(limited), await in_cubbyhole(limited)
        await limited.parts.session.token()
        for path in ("auth/token", "cubbyhole", "transit"):
            limited.clock.advance(10)
            async with quota(limited, path):
                answer = await (client.post(**fields) if path != "transit" else limited.submit())
                assert (answer.status_code, answer.json()) == (
                    429,
                    {
                        "status": "Too Many Requests.",
                        "error": "Vault takes no more requests at the moment: its rate limit is reached.",
                    },
                ), path
        assert await client.submissions() == 0
        assert await client.take(**fields)
