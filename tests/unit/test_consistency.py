"""What NATS says of its cluster and its streams, and what follows from it."""

from collections.abc import Mapping
from typing import Any

import pytest

from stint.core.errors import BrokerUnavailableError
from stint.core.names.streams import EVENTS
from stint.jetstream import Broker, JetStreamHistory
from stint.jetstream.streams.consistency import is_absent
from stint.jetstream.streams.stream import Stream


class Server(Broker):
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


@pytest.mark.parametrize("last", [7, 8])
async def test_only_a_leader_that_has_what_is_stored_now_proves_an_absence(last: int) -> None:
    server = Server({"state": {"last_seq": last}, "cluster": {"replicas": [{}, {}]}})
    server.stores_at = 8
    if last >= server.stores_at:
        assert await is_absent(Stream(server, EVENTS), "a.>")
    else:
        with pytest.raises(BrokerUnavailableError):
            await is_absent(Stream(server, EVENTS), "a.>")
    server.info["state"] = {"subjects": {"a.b": 1}, "last_seq": last}
    assert not await is_absent(Stream(server, EVENTS), "a.>"), "what is there needs no proof"


async def test_a_single_server_needs_no_proof() -> None:
    assert await is_absent(Stream(Server({"state": {"last_seq": 7}}), EVENTS), "a.>")


async def test_no_job_is_missing_from_a_work_that_is_filled_from_nowhere() -> None:
    assert await JetStreamHistory(Server({"state": {"messages": 0}})).strays() is None
