"""The queues, one of them, and the runners."""

from collections.abc import Mapping
from typing import Any, Final

from stint.vault.actions import READ
from stint_api.auth import Identity
from stint_api.page.drawn import Row, words
from stint_api.routes.fleet import list_runners, queue_named
from stint_api.routes.models.fleet import RunnerBody
from stint_api.services import Services

SHOWN: Final = 20
"""Jobs of a queue that are named."""
SLOTS: Final = 12
"""Slots that are drawn as squares."""
JOBS: Final = 6
"""Jobs of a runner that are named."""
_FIRST: Final = ("held", "norunner", "paused", "active", "idle")
"""The states of queues, in the order in which they need a person."""
_SHAPES: Final = {"lost": "norunner", "draining": "stopping", "alive": "active"}
"""The shapes of the states of runners, in the same order."""


async def queues(services: Services, caller: Identity) -> Row:
    """The queues that the caller may read, those that need a person first."""
    found, now = await services.queues.all(caller), services.now().timestamp()
    rows = [_queue(queue, now) for queue in found]
    rows.sort(key=lambda row: (_FIRST.index(row["kind"]), -row["depth"], row["qname"]))
    running, depth = sum(bool(row["running"]) for row in rows), sum(row["depth"] for row in rows)
    oldest = max((queue["oldest_wait"] for queue in found), default=0)
    waited = f" The oldest has waited {words.duration(oldest)}." if depth else ""
    return {"rows": rows, "sum": f"{words.count(len(rows), 'queue')}, {running} running, {depth} waiting.{waited}"}


async def queue(services: Services, caller: Identity, *, part: str) -> Row:
    """The queue that a part of an address names, if the caller may read it."""
    qname = await queue_named(part)
    await services.auth.require(caller, READ, qname)
    return _queue(await services.queues.one(qname), services.now().timestamp())


def _queue(queue: Mapping[str, Any], now: float) -> Row:
    kind, ended, failed = _state(queue), queue["ended_last_hour"], queue["failed_last_hour"]
    waiting, contact = queue.get("waiting", ())[:SHOWN], words.at(queue["last_contact"])
    return {
        "qname": queue["qname"],
        "href": words.queue_path(queue["qname"]),
        "kind": kind,
        "why": _why(queue, kind),
        "running": queue["running"],
        "having": _having(queue),
        "depth": queue["depth"],
        "oldest": words.duration(queue["oldest_wait"]) if queue["depth"] else "none",
        "ended": f"{ended}, {failed} failed" if failed else str(ended),
        "paused": _paused(queue),
        "waiting": waiting,
        "more": queue["depth"] - len(waiting),
        "contact": words.ago(now - contact) if contact else "",
        "served": queue["served"],
    }


def _state(queue: Mapping[str, Any]) -> str:
    if queue["held"]:
        return "held"
    if queue["depth"] and not queue["served"]:
        return "norunner"
    if queue["paused"]:
        return "paused"
    return "active" if queue["running"] else "idle"


def _why(queue: Mapping[str, Any], kind: str) -> str:
    if kind == "held":
        return f"since {words.clock(queue['held_since'])}" if words.at(queue["held_since"]) else ""
    if kind == "norunner":
        return "no runner that is alive serves it"
    return _paused(queue)


def _paused(queue: Mapping[str, Any]) -> str:
    paused = queue["paused"]
    if not paused:
        return ""
    reason = f": “{paused['reason']}”" if paused["reason"] else ""
    when = f" at {words.clock(paused['at'])}" if words.at(paused["at"]) else ""
    return f"by {paused['who'] or 'somebody'}{when}{reason}"


def _having(queue: Mapping[str, Any]) -> str:
    if queue["running_status"] == "stopping":
        return " is stopping"
    return " on a runner that was lost" if queue["held"] else ""


async def runners(services: Services, caller: Identity) -> Row:
    """The runners, those that are not heard first, with those of their jobs that the caller may read."""
    found, now = (await list_runners(services, caller)).data, services.now().timestamp()
    alive = [runner for runner in found if runner.alive]
    differ = len({runner.version for runner in alive}) > 1
    kinds = list(_SHAPES)
    rows = [_runner(runner, now, differ=differ) for runner in found]
    rows.sort(key=lambda row: (kinds.index(row["kind"]), row["runner"]))
    slots, busy = sum(runner.capacity for runner in alive), sum(len(runner.running) for runner in alive)
    return {"rows": rows, "sum": f"{len(alive)} alive, {busy} of {words.count(slots, 'slot')} taken."}


def _runner(runner: RunnerBody, now: float, *, differ: bool) -> Row:
    kind = ("draining" if runner.draining else "alive") if runner.alive else "lost"
    taken = len(runner.running)
    drawn = runner.alive and runner.capacity <= SLOTS
    return {
        "runner": runner.runner,
        "kind": kind,
        "shape": _SHAPES[kind],
        "why": _told(runner, kind),
        "slots": [number < taken for number in range(runner.capacity)] if drawn else [],
        "taken": f"{taken} of {runner.capacity}",
        "jobs": runner.running[:JOBS],
        "more": max(0, taken - JOBS),
        "queues": ", ".join(runner.queues) or "all",
        "version": f"{runner.version} (they differ)" if differ else runner.version,
        "heard": words.ago(now - words.at(runner.last_seen)),
    }


def _told(runner: RunnerBody, kind: str) -> str:
    if kind == "lost":
        return "whether its containers live is not known"
    if kind == "draining":
        return f"asked by {runner.drained_by}" if runner.drained_by else "it was told to stop"
    return f"since {words.clock(runner.started)}" if words.at(runner.started) else ""
