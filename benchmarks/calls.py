"""The floor below the figures: what a submission and a job ask of Vault and NATS, and what these calls cost alone.

A call alone is a client's lookup of its own token in Vault, and a publish that NATS acknowledges. Most of Stint's calls
cost the servers more: they encrypt, log in, revoke. What NATS only reads, delivers or acknowledges is not counted.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import bare_calls
from benchmarks.fleet import CORES, JOBS, PARTS, spread
from benchmarks.measure import Measured, Row, compared, cpu_of
from benchmarks.scripted import fleet
from benchmarks.stack import Stack, opened, stack
from stint.core.names.streams import EVENTS, JOBS_BUCKET, LOGS, PAYLOADS, WORK, kv_stream
from stint.jetstream import Broker
from stint.jetstream.wire.protocol import check
from stint.process.waiting import for_each

REQUESTS: Final = ("vault_core_handle_request_count", "vault_core_handle_login_request_count")
"""What Vault counts."""
OF_API: Final = tuple(
    f"vault_route_{route}__count" for route in ("delete_stint_keys", "list_stint_keys", "read_auth_token")
)
"""Those that the API makes for a job after its submission: it destroys keys, and looks up again who follows."""
STREAMS: Final = (EVENTS, PAYLOADS, WORK, LOGS, kv_stream(JOBS_BUCKET))


class Alone(NamedTuple):
    """Milliseconds of CPU of one call, of the client and of the server."""

    client: float
    server: float


class Used(NamedTuple):
    """What one submission or job used: requests to Vault, messages by stream, milliseconds of CPU by process.

    `later` are the requests in `OF_API`, which are among the others.
    """

    requests: float
    later: float
    stored: Mapping[str, float]
    cpu: Mapping[str, float]


async def rows(times: int) -> Sequence[Row]:
    """Plain submissions without runners, then jobs of one runner on an engine that costs next to nothing."""
    async with stack(runners=0) as stint, opened(stint) as broker:
        vault, nats = await _alone(stint, "vault", "openbao-1"), await _alone(stint, "nats", "nats-1")
        posts = [await _submissions(stint, broker) for _ in range(times + 1)][1:]
    async with fleet() as runners, opened(runners.stint) as broker, runners.runners(1, 8) as (runner,):
        processes = _processes(runners.stint) | {"runner": runner}
        jobs = []
        for _ in range(times + 1):
            before = await _now(runners.stint, broker, processes)
            await runners.run(spread("calls"))
            jobs.append(_each(before, await _now(runners.stint, broker, processes)))
    asked = posts[-1].requests + 1  # one is for the job's ticket, as a client gets it
    runs = [
        Used(job.requests - job.later - asked, 0, {EVENTS: job.stored[EVENTS] - 1, LOGS: job.stored[LOGS]}, job.cpu)
        for job in jobs[1:]
    ]
    submitted = [used._replace(stored={name: used.stored[name] for name in (EVENTS, PAYLOADS)}) for used in posts]
    return [
        _client("a plain POST", "API", submitted, vault.client, nats.client),
        _client("a job without its engine", "runner", runs, vault.client, nats.client),
        *_servers("a plain POST", "POSTs/s", posts, vault, nats),
        *_servers("a job without its engine", "jobs/s", jobs[1:], vault, nats),
    ]


async def _alone(stint: Stack, kind: str, part: str) -> Alone:
    """A process that does nothing but these calls."""
    before, command = cpu_of(stint.pid(part)), [sys.executable, "-m", "benchmarks.bare_calls", kind]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    said, _ = await process.communicate(msgspec.json.encode(stint.env))
    return Alone(float(said), (cpu_of(stint.pid(part)) - before) / bare_calls.MADE)


async def _submissions(stint: Stack, broker: Broker) -> Used:
    processes, tickets = _processes(stint), await stint.tickets(JOBS)
    before = await _now(stint, broker, processes)
    await for_each(tickets, lambda ticket: stint.submit(ticket, queue="calls"), at_once=bare_calls.CLIENTS)
    return _each(before, await _now(stint, broker, processes))


def _processes(stint: Stack) -> dict[str, int]:
    return {name: stint.pid(part) for name, part in PARTS.items()}


async def _now(stint: Stack, broker: Broker, processes: Mapping[str, int]) -> Used:
    """All that was used so far."""
    states = [check(await broker.api(f"STREAM.INFO.{name}"))["state"] for name in STREAMS]
    stored = {name: float(state["last_seq"]) for name, state in zip(STREAMS, states, strict=True)}
    counted = await _counted(stint)
    requests, later = [sum(counted.get(name, 0) for name in names) for names in (REQUESTS, OF_API)]
    return Used(requests, later, stored, {name: cpu_of(pid) for name, pid in processes.items()})


async def _counted(stint: Stack) -> Mapping[str, float]:
    """Vault's metrics by name."""
    url = f"{stint.env['VAULT_ADDR']}/v1/sys/metrics?format=prometheus"
    async with stint.http.get(url, headers={"X-Vault-Token": stint.env["VAULT_TOKEN"]}) as answer:
        families = text_string_to_metric_families(await answer.text())
        return {sample.name: sample.value for family in families for sample in family.samples}


def _each(before: Used, after: Used) -> Used:
    """What each of the `JOBS` has used."""
    return Used(
        (after.requests - before.requests) / JOBS,
        (after.later - before.later) / JOBS,
        {name: (count - before.stored[name]) / JOBS for name, count in after.stored.items()},
        {name: (cpu - before.cpu[name]) / JOBS for name, cpu in after.cpu.items()},
    )


def _client(what: str, part: str, used: Sequence[Used], vault: float, nats: float) -> Row:
    """A client of both, beside a process that only makes the same calls."""
    alone = [one.requests * vault + sum(one.stored.values()) * nats for one in used]
    beside = f"{used[-1].requests:.1f} requests to Vault, {sum(used[-1].stored.values()):.1f} publishes alone"
    return compared(f"CPU of {part}, {what}, beside its calls", "ms", [one.cpu[part] for one in used], beside, alone)


def _servers(what: str, unit: str, used: Sequence[Used], vault: Alone, nats: Alone) -> list[Row]:
    """The servers, beside as many of the simplest calls; and what they leave room for."""
    spent = [one.cpu["Vault"] + one.cpu["NATS"] for one in used]
    alone = [one.requests * vault.server + sum(one.stored.values()) * nats.server for one in used]
    beside = f"{used[-1].requests:.1f} requests, {sum(used[-1].stored.values()):.1f} publishes of the simplest kind"
    name = f"CPU of Vault and NATS, {what}, beside its calls"
    return [
        compared(name, "ms", spent, beside, alone),
        Row(
            f"{unit} that {CORES} cores allow if only Vault and NATS cost anything",
            Measured("Vault and NATS", unit, [CORES * 1000 / cpu for cpu in spent]),
        ),
    ]
