"""What NATS says of its cluster and its streams, and what is done when WORK receives nothing."""

from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from stint.core.errors import BrokerUnavailableError
from stint.core.names.streams import EVENTS, WORK
from stint.jetstream import Broker, JetStreamHistory
from stint.jetstream.streams.consistency import current_subjects
from stint.jetstream.streams.sourcing import MOST_WAITING, SILENCE, Sourcing, as_declared, source
from stint.jetstream.streams.stream import Stream
from stint.jetstream.streams.topology import stream_configs

SECOND = 10**9
MADE = "2026-01-02T03:04:05Z"
FAILED: Mapping[str, Any] = {"active": -1, "error": {"code": 404}, "seq": 7}


class Server(Broker):
    """Says of WORK what a test has set, and notes what it is asked to change."""

    def __init__(self) -> None:
        super().__init__("nats://127.0.0.1:1")
        self.work: Mapping[str, Any] = {}
        self.stepped_down = 0
        self.settings: list[dict[str, Any]] = []
        self.last = 7
        self.made = MADE

    async def api(self, subject: str, request: Mapping[str, Any] | None = None, wait: float | None = None) -> Any:
        del wait
        if subject == f"STREAM.LEADER.STEPDOWN.{WORK}":
            self.stepped_down += 1
        if subject == f"STREAM.UPDATE.{WORK}" and request:
            self.settings += request["sources"]
        events = {"created": self.made, "state": {"first_seq": 1, "last_seq": self.last}}
        return events if subject == f"STREAM.INFO.{EVENTS}" else self.work


def work(
    leader: str = "one", *, replicas: int = 0, settings: Mapping[str, Any] | None = None, waiting: int = 0, **heard: Any
) -> dict[str, Any]:
    return {
        "config": {"name": WORK, "sources": [settings or source()]},
        "state": {"messages": waiting, "last_ts": MADE},
        "sources": [{"active": int(SILENCE * SECOND), **heard}],
        "cluster": {"leader": leader, "replicas": [{}] * replicas},
    }


def of_three(leader: str, silent: float) -> dict[str, Any]:
    return work(leader, replicas=2, active=int(silent * SECOND))


async def changed(*looks: Mapping[str, Any]) -> Server:
    server = Server()
    sourcing = Sourcing(server)
    for server.work in looks:
        await sourcing.check()
    return server


@pytest.mark.parametrize(
    ("looks", "asked"),
    [
        ([of_three("one", SILENCE), of_three("one", SILENCE)], 1),
        ([of_three("one", -1 / SECOND), of_three("one", -1 / SECOND)], 1),
        ([of_three("one", SILENCE)], 0),
        ([of_three("one", SILENCE), of_three("two", SILENCE)], 0),
        ([of_three("one", SILENCE), of_three("one", SILENCE - 1), of_three("one", SILENCE)], 0),
        ([work("one", replicas=2, **FAILED)], 0),
    ],
)
async def test_a_leader_that_is_silent_twice_is_asked_to_step_down(looks: list[dict[str, Any]], asked: int) -> None:
    server = await changed(*looks)
    assert (server.stepped_down, server.settings) == (asked, [])


@pytest.mark.parametrize(
    ("looks", "settings"),
    [
        ([work(**FAILED)], [source(1, 8)]),
        ([work(**FAILED, settings=source(4, 5))], [source(5, 8)]),
        ([work(**{**FAILED, "seq": 0}, settings=source(4, 5))], [source(5, 5)]),
        ([work(**{**FAILED, "seq": 0})], []),
        ([work(**FAILED, settings={"name": EVENTS})], []),
        ([work(**FAILED, settings={**source(1), "filter_subject": "x"})], []),
        ([work(**FAILED, waiting=MOST_WAITING + 1)], []),
        ([work(seq=7), work(seq=7)], [source(1, 8)]),
        ([work(seq=7)], []),
        ([work(active=0, error={}, seq=7)], []),
    ],
)
async def test_a_single_server_connects_it_again(looks: list[dict[str, Any]], settings: list[dict[str, Any]]) -> None:
    server = await changed(*looks)
    assert (server.stepped_down, server.settings) == (0, settings)


async def test_another_number_of_sources_is_logged_once() -> None:
    none = {**work(active=0), "config": {"name": WORK}}
    del none["sources"]
    two = {**work(active=0), "config": {"name": WORK, "sources": [source(), {"name": "OTHER"}]}}
    with capture_logs() as said:
        server = await changed(work(active=0), none, none, two, two, work(active=0), work(active=0))
    assert [(one["log_level"], one["sources"]) for one in said] == [("warning", 0), ("warning", 2), ("info", 1)]
    assert (server.stepped_down, server.settings) == (0, [])


@pytest.mark.parametrize(
    ("last", "looks", "settings"),
    [
        (3, work(settings=source(4, 5), active=0), [source(5, 1)]),
        (4, work(settings=source(4, 5), active=0), []),
        (6, work(active=0, seq=7), [source(1, 1)]),
        (6, work(replicas=2, active=0, seq=7), []),
        (6, work(**FAILED, waiting=MOST_WAITING + 1), [source(1, 1)]),
        (7, work(active=0, seq=7), []),
    ],
)
async def test_a_log_that_is_shorter_than_what_work_has_received_is_read_from_its_begin(
    last: int, looks: Mapping[str, Any], settings: list[dict[str, Any]]
) -> None:
    server = Server()
    server.last, server.work = last, looks
    with capture_logs() as said:
        await Sourcing(server).check()
    assert server.settings == settings
    warned = [one["last"] for one in said if one["log_level"] == "warning"]
    assert warned == [last for found in settings if found["opt_start_seq"] == 1]


@pytest.mark.parametrize(("replicas", "checks"), [(0, 1), (2, 2)])
async def test_a_log_that_was_made_anew_is_read_from_its_begin_however_long_it_is(replicas: int, checks: int) -> None:
    server = Server()
    sourcing, server.work = Sourcing(server), work(replicas=replicas, active=0, seq=7)
    await sourcing.check()
    server.made, server.last = "2026-01-02T03:04:06Z", 70
    for _ in range(checks):
        assert not server.settings
        await sourcing.check()
    assert (server.settings, server.stepped_down) == ([source(1, 1)], 0)
    server.work = work(replicas=replicas, active=0, seq=70)
    await sourcing.check()
    assert server.settings == [source(1, 1)]


@pytest.mark.parametrize(("replicas", "checks"), [(0, 1), (2, 2)])
async def test_of_several_projectors_one_has_a_log_that_was_made_anew_read_from_its_begin(
    replicas: int, checks: int
) -> None:
    server = Server()
    several, server.work = [Sourcing(server) for _ in range(3)], work(replicas=replicas, active=0, seq=7)
    for number in range(3):  # the first time there is nothing to do
        server.made, server.last = f"2026-01-02T03:04:0{number}Z", 70
        for sourcing in several * checks:
            await sourcing.check()
            if server.settings:
                server.work = work(replicas=replicas, active=0, seq=70, settings=server.settings[-1])
    assert server.settings == [source(1, 1), source(2, 1)]


@pytest.mark.parametrize("replicas", [0, 2])
async def test_while_nothing_is_known_of_the_source_nothing_is_changed(replicas: int) -> None:
    leaderless = work(replicas=replicas)
    del leaderless["sources"]
    server = await changed(leaderless)
    assert (server.stepped_down, server.settings) == (0, [])


async def test_in_a_cluster_a_log_is_shorter_if_two_checks_say_so() -> None:
    """The first one may have asked a server that was frozen, and does not know yet that another one leads."""
    server = Server()
    sourcing, server.work = Sourcing(server), work(replicas=2, active=0, seq=7)
    for last in (6, 7, 6):
        server.last = last
        await sourcing.check()
    assert not server.settings
    await sourcing.check()
    assert server.settings == [source(1, 1)]


def test_however_it_was_connected_the_settings_are_the_declared_ones() -> None:
    (declared,) = (config for config in stream_configs(1) if config["name"] == WORK)
    assert as_declared({**declared, "sources": [source(3, 9)]}) == declared
    twice = {**source(), "subject_transforms": [*source()["subject_transforms"]] * 2}
    for other in ({"name": "OTHER"}, twice):
        assert as_declared({**declared, "sources": [other]}) == {**declared, "sources": [other]}


class Informed(Broker):
    """Answers each request about a stream with `info`."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        super().__init__("nats://127.0.0.1:1")
        self.info = dict(info)
        self.stores_at = 0

    async def api(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self.info

    async def publish(self, *_: Any, **__: Any) -> dict[str, Any]:
        assert self.stores_at, "nothing should be stored"
        return {"stream": EVENTS, "seq": self.stores_at}


def states(last: int, *subjects: str, replicas: int) -> dict[str, Any]:
    found = dict.fromkeys(subjects, 1) or None
    return {"state": {"last_seq": last, "subjects": found}, "config": {"num_replicas": replicas}}


@pytest.mark.parametrize("subjects", [[], ["a.b"]])
@pytest.mark.parametrize("last", [7, 8])
async def test_only_a_leader_that_has_what_is_stored_now_proves_anything(last: int, subjects: list[str]) -> None:
    """Whatever it says of its followers: nothing, while it makes its group anew."""
    server = Informed(states(last, *subjects, replicas=3))
    server.stores_at = 8
    if last >= server.stores_at:
        assert list(await current_subjects(Stream(server, EVENTS), "a.>")) == subjects
    else:
        with pytest.raises(BrokerUnavailableError):
            await current_subjects(Stream(server, EVENTS), "a.>")


async def test_a_single_server_needs_no_proof() -> None:
    assert not await current_subjects(Stream(Informed(states(7, replicas=1)), EVENTS), "a.>")


async def test_no_job_is_missing_from_a_work_that_is_filled_from_nowhere() -> None:
    assert await JetStreamHistory(Informed({"state": {"messages": 0}})).strays() is None
