"""What NATS says of its cluster, and what follows from it."""

from collections.abc import Mapping
from typing import Any

import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.subjects import WORK
from stint.jetstream import Broker
from stint.jetstream.consistency import FOLLOWED, SILENCE, Sourcing, is_absent
from stint.jetstream.stream import Stream

SECOND = 10**9
SOON, LATE = int(FOLLOWED * SECOND) - 1, int(FOLLOWED * SECOND)


class Server(Broker):
    """Answers each request about a stream with `info`, and notes who was asked to step down."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        super().__init__("nats://127.0.0.1:1")
        self.info = dict(info)
        self.stepped_down: list[str] = []

    async def api(self, subject: str, *_: Any, **__: Any) -> dict[str, Any]:
        if "STEPDOWN" in subject:
            self.stepped_down.append(subject)
        return self.info


@pytest.mark.parametrize(
    ("active", "proven"),
    [
        ([], True),
        ([SOON, SOON], True),
        ([SOON, LATE], True),
        ([LATE, LATE], False),
        ([0, 0], False),
        ([SOON, 0, 0, 0], False),
    ],
)
async def test_only_a_leader_whom_a_majority_follows_proves_an_absence(active: list[int], proven: bool) -> None:
    cluster = {"replicas": [{"active": since} for since in active]}
    server = Server({"state": {}, "cluster": cluster})
    if proven:
        assert await is_absent(Stream(server, WORK), "a.>")
    else:
        with pytest.raises(BrokerUnavailableError):
            await is_absent(Stream(server, WORK), "a.>")
    server.info["state"] = {"subjects": {"a.b": 1}}
    assert not await is_absent(Stream(server, WORK), "a.>"), "what is there needs no proof"


def work(leader: str, silent: float, replicas: int = 2) -> dict[str, Any]:
    active = int(silent * SECOND)
    return {"sources": [{"active": active}], "cluster": {"leader": leader, "replicas": [{}] * replicas}}


@pytest.mark.parametrize(
    ("looks", "asked"),
    [
        ([work("one", SILENCE), work("one", SILENCE)], 1),
        ([work("one", -1 / SECOND), work("one", -1 / SECOND)], 1),
        ([work("one", SILENCE)], 0),
        ([work("one", SILENCE), work("two", SILENCE)], 0),
        ([work("one", SILENCE), work("one", SILENCE - 1), work("one", SILENCE)], 0),
        ([work("one", SILENCE, 0), work("one", SILENCE, 0)], 0),
    ],
)
async def test_a_leader_of_work_that_is_silent_twice_is_asked_to_step_down(
    looks: list[dict[str, Any]], asked: int
) -> None:
    server = Server({})
    sourcing = Sourcing(server)
    for info in looks:
        server.info = info
        await sourcing.check()
    assert len(server.stepped_down) == asked
