import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stint.core.errors import JobFailedError
from stint.core.payload import JobPayload
from stint_runner.inputs.opening import Opened, Opener
from tests.support.api_bench import ROLE, SEALED, Bench, api
from tests.support.containers import OpenBao
from tests.support.servers import NatsProcess
from tests.support.submissions import opened, stored, submitted


@pytest.fixture(scope="module")
async def bench(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token) as bench:
        await bench.parts.index.ready.wait()
        yield bench


@pytest.fixture(scope="module")
async def compat(nats: NatsProcess, openbao: OpenBao) -> AsyncIterator[Bench]:
    async with api(nats.url, openbao.address, openbao.root_token, STINT_COMPAT="gostint") as bench:
        await bench.parts.index.ready.wait()
        yield bench


# --- merging (STINT_COMPAT=gostint) ---------------------------------------------------------------------------------


async def sealed(bench: Bench, **fields: Any) -> str:
    return await bench.vault.encrypt(bench.root, ROLE, json.dumps(fields).encode())


OWN = {"container_image": "other", "run": ["env"], "env_vars": ["A=1"], "secret_refs": ["B@kv/b.x"], "tty": True}


@pytest.mark.parametrize("through", ["payload", "cubbyhole"])
async def test_the_requests_fields_fill_the_payload(compat: Bench, through: str) -> None:
    payload = await sealed(compat, qname="Deploys", container_image="busybox", secret_refs=["A@kv/a.x"])
    fields: dict[str, Any] = {"payload": payload}
    if through == "cubbyhole":
        token = await compat.cubbyhole({"payload": payload})
        fields = {"payload": "", "cubby_token": token, "cubby_path": "cubbyhole/job"}
    job_id = await compat.submitted(**fields, **OWN)
    job = await compat.parts.log.load(job_id)
    assert job is not None
    assert await opened(compat, job, "deploys") == Opened(
        JobPayload(
            qname="Deploys",
            container_image="busybox",
            run=("env",),
            env_vars=("A=1",),
            secret_refs=("A@kv/a.x",),
            tty=True,
        ),
        ("B@kv/b.x",),
    )
    with pytest.raises(JobFailedError, match="STINT_COMPAT=gostint") as refused:
        await opened(compat, job, "deploys", compat=False)
    assert refused.value.reason == "payload"
    with pytest.raises(JobFailedError, match="do not match: 'deploys' != 'x'"):
        await opened(compat, job, "x")


async def test_the_payloads_queue_is_not_filled(compat: Bench) -> None:
    job_id = await compat.submitted(payload=await sealed(compat, container_image="busybox"), **OWN)
    job = await compat.parts.log.load(job_id)
    assert job is not None
    with pytest.raises(JobFailedError, match="do not match: '' != 'deploys'"):
        await opened(compat, job, "deploys")


async def test_without_own_fields_the_payload_stands_alone(compat: Bench) -> None:
    payload = await sealed(compat, qname="deploys", container_image="busybox")
    job_id = await compat.submitted(payload=payload, on_lost="hold", run=[], tty=False)
    job = await compat.parts.log.load(job_id)
    assert job is not None
    assert (await stored(compat, job))[0] == payload.encode()
    assert await opened(compat, job, "deploys") == Opened(JobPayload(qname="deploys", container_image="busybox"))


async def test_without_compat_the_requests_fields_are_ignored(bench: Bench) -> None:
    payload = await sealed(bench, qname="deploys", container_image="busybox")
    job_id = await bench.submitted(payload=payload, **OWN, timeout=-1)
    job = await bench.parts.log.load(job_id)
    assert job is not None
    assert (await stored(bench, job))[0] == payload.encode()
    assert submitted(job).container_image == ""
    assert await opened(bench, job, "deploys") == Opened(JobPayload(qname="deploys", container_image="busybox"))


async def test_nobody_else_adds_a_line(compat: Bench, bench: Bench) -> None:
    for bad in (f"{SEALED}\n{SEALED}", f"{SEALED}\n", f"\n{SEALED}"):
        for one in (compat, bench):
            assert (await one.submit(payload=bad)).status_code == 400
            token = await one.cubbyhole({"payload": bad})
            answer = await one.submit(payload="", cubby_token=token, cubby_path="cubbyhole/job")
            assert answer.status_code == 400
    three = "\n".join([await sealed(compat, qname="deploys")] * 3).encode()
    opener = Opener(vault=compat.vault, session=compat.parts.session, role=ROLE, role_id="", compat=True)
    with pytest.raises(JobFailedError):
        await opener.payload(three, "", "deploys")
