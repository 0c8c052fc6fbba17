"""One job: what is known of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from stint.core.job import Job
from stint.core.view import view
from stint_api.auth import Identity
from stint_api.page.drawn import Row, words
from stint_api.read.job.live import fact
from stint_api.read.job.output import Snapshot
from stint_api.routes import documents
from stint_api.routes.answers import standing_of
from stint_api.services import Services

_NOBODY: Final = "somebody who is not known"
_STORY: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "submitted": lambda told: f"Submitted by {told['by'] or _NOBODY}",
    "started": lambda told: f"Claimed by {told['runner']}",
    "launched": lambda told: f"Container {told['container_id'][:12]} exists",
    "held": lambda _: "Held: its runner is silent, and the queue waits",
    "released": lambda told: f"Released by {told['by'] or _NOBODY}",
    "kill_requested": lambda told: f"Kill requested by {told['by'] or _NOBODY}",
    "rejected": lambda _: "Rejected: the submission is malformed",
    "ended": lambda told: f"Ended: {words.WORDS[told['status']].lower()}{_code(told)}",
}
_HELD: Final = (
    "{node_uuid} was lost while it ran this job. Whether its container lives is not known. The queue waits until the "
    "runner is back or somebody releases the job."
)


async def find(services: Services, caller: Identity, *, job_id: str) -> Row:
    """The job, if the caller may read it.

    `fields` is what the API answers, which scripts begin with, `lasting` how long it lasts, or lasted, and `verdict`
    what a person should know first, "" if that is nothing.
    """
    job = await services.jobs.find(caller, job_id)
    stored = await Snapshot.take(services.output, job.token, job.job_id, recorded=documents.recorded(job))
    shown = documents.as_stored(view(job), stored.size, whole=stored.whole)
    fields = documents.fields(shown, await standing_of(services, job, shown))
    now, last = services.now().timestamp(), await services.output.last(job.token, job.job_id)
    story = [fact(record, job.state) for record in job.facts.values()]
    return {
        "fields": documents.whole(fields).decode(),
        "is_over": words.is_over(fields),
        "actions": list(_actions(fields)),
        "kind": words.kind(fields),
        "title": f"{words.WORDS[words.kind(fields)]}{_code(fields)}: {words.short(job_id)} in {_queue(fields)}",
        "lasting": _lasting(fields, now),
        "sentence": _sentence(fields, words.at(last.time) if last else 0.0, now),
        "verdict": _verdict(fields, story),
        "facts": [found for found in _facts(fields) if found["text"]],
        "phases": list(_phases(fields, job, now)),
        "history": [{"at": one["at"], "clock": words.clock(one["at"]), "text": _told(one)} for one in story],
    }


def _actions(job: words.Fields) -> Iterator[str]:
    """What can be done with it in its state."""
    over, status = words.is_over(job), job["status"]
    if not over and status != "stopping":
        yield "kill"
    if job["held"] and not over:
        yield "release"
    if over or status == "queued":
        yield "delete"


def _queue(job: words.Fields) -> str:
    return job["qname"] or "the unnamed queue"


def _code(told: Mapping[str, Any]) -> str:
    return f", exit code {told['return_code']}" if told["reason"] == "exit_code" else ""


def _told(one: Mapping[str, Any]) -> str:
    return _STORY[one["kind"]](one) if one["kind"] in _STORY else str(one["kind"])


def _lasting(job: words.Fields, now: float) -> str:
    started, ended = words.at(job["started"]), words.at(job["ended"])
    if job["status"] == "queued":
        return f"for {words.duration(now - words.at(job['submitted']))}"
    if words.is_over(job):
        return f"after {words.duration(ended - started)}" if started else ""
    return f"for {words.duration(now - started)}"


def _sentence(job: words.Fields, wrote: float, now: float) -> str:
    """Where it runs or ran, and what is known; `wrote` is when it last wrote something."""
    image = "/".join(job["container_image"].split("/")[-2:])
    where = " ".join(filter(None, (image, job["node_uuid"] and f"on {job['node_uuid']}")))
    if words.is_over(job):
        return f"{', '.join(filter(None, (where, words.ago(now - words.at(job['ended'])))))}."
    said = f"Wrote output {words.ago(now - wrote)}" if wrote and job["status"] == "running" else ""
    return " ".join(f"{part.removesuffix('.')}." for part in (where, said or words.sentence(job, now)) if part)


def _verdict(job: words.Fields, story: list[dict[str, Any]]) -> str:
    if words.kind(job) == "held":
        return _HELD.format_map(job)
    if not words.is_over(job) or job["status"] == "success":
        return ""
    if job["reason"] == "exit_code":
        return f"The command ended with exit code {job['return_code']}."
    if job["reason"] == "killed":
        by = next((one["by"] for one in story if one["kind"] == "kill_requested"), "")
        return f"{by} killed it." if by else "It was killed."
    return job["error"] or f"{words.sentence(job)}."


def _facts(job: words.Fields) -> Iterator[Row]:
    yield _fact("Queue", job["qname"] or "(no name)", words.queue_path(job["qname"]))
    yield _fact("Image", job["container_image"], mono=True)
    yield _fact("Again", words.short(job["rerun_of"]), f"/jobs/{job['rerun_of']}", mono=True)
    yield _fact("By", job["submitted_by"])
    for name in ("submitted", "started", "ended"):
        yield _fact(name.capitalize(), words.whole(job[name]) if words.at(job[name]) else "")
    yield _fact("Runner", job["node_uuid"])
    yield _fact("Container", job["container_id"][:12], mono=True)
    over = words.is_over(job)
    yield _fact("Exit code", str(job["return_code"]) if over and job["container_id"] else "")
    yield _fact("Reason", job["reason"])
    yield _fact("Output", words.size_of(job["output_bytes"]) if over else "")


def _fact(name: str, text: str, href: str = "", *, mono: bool = False) -> Row:
    return {"name": name, "text": text, "href": href, "mono": mono}


def _phases(job: words.Fields, facts: Job, now: float) -> Iterator[Row]:
    """How long it waited, was prepared, ran, and since when it is held; `look` is how that is drawn."""
    over, held = words.is_over(job), words.kind(job) == "held"
    steps = [("Queued", "submitted", "wait"), ("Prepared", "started", "done")]
    steps.append(("Ran" if over else "Running", "launched", "done"))
    steps += [("Held", "held", "held")] if held else []
    begun = [(name, start, look) for name, kind, look in steps if (start := words.at(facts.time_of(kind)))]
    ended = words.at(facts.time_of("ended", "rejected"))
    last = "g4"
    if ended and job["status"] != "success":
        last = "g4 bad"
    elif not (ended or held):
        last = "g4 now"
    for number, (name, start, look) in enumerate(begun, 1):
        following = begun[number][1] if number < len(begun) else 0
        looks = look if following else f"{look} {last}"
        yield {"name": name, "look": looks, "took": words.duration((following or ended or now) - start)}
