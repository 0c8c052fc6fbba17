"""The configuration of NATS that gives each role an account."""

from stint.jetstream.consuming import feed
from stint.jetstream.wire import broker
from stint.natsauth.config import STREAMS_ACCOUNT, accounts
from stint.natsauth.requests import ANSWERS
from stint.natsauth.roles import OPERATOR, SERVICES

KEYS = dict.fromkeys((OPERATOR, "told", *(role.name for role in SERVICES)), "UABC")


def test_the_server_forgets_the_way_back_of_several_answers_once_nobody_waits_for_them() -> None:
    exports = accounts(KEYS, {}, {"told": "UABC"}, {})[STREAMS_ACCOUNT]["exports"]
    several = {found["service"]: found for found in exports if found.get("response_type") == "stream"}
    kept = {subject: found["response_threshold"] for subject, found in several.items()}
    assert kept["$JS.API.DIRECT.GET.EVENTS"] == kept["$JS.API.CONSUMER.MSG.NEXT.WORK.*"] == f"{ANSWERS}s"
    assert 2 * max(feed.PULL_WAIT, broker.REPLICA_WAIT) < ANSWERS
    assert {kept[subject] for subject in kept if "told" in subject} == {"120s"}, "its library decides how long it waits"
