"""The configuration of NATS that gives each role an account."""

from stint.core.names.streams import JOBS_BUCKET, kv_stream
from stint.core.names.subjects import consumer_subject, output_subject
from stint.jetstream.consuming import feed, making
from stint.jetstream.streams.topology import stream_configs
from stint.jetstream.wire import broker
from stint.natsauth.config import STREAMS_ACCOUNT, TOLD_WITHIN, accounts
from stint.natsauth.requests import ANSWERS
from stint.natsauth.roles import OPERATOR, SERVICES
from stint.publisher import output

KEYS = dict.fromkeys((OPERATOR, "told", *(role.name for role in SERVICES)), "UABC")


def test_the_server_forgets_the_way_back_of_several_answers_once_nobody_waits_for_them() -> None:
    exports = accounts(KEYS, {}, {"told": "UABC"}, {})[STREAMS_ACCOUNT]["exports"]
    several = {found["service"]: found for found in exports if found.get("response_type") == "stream"}
    kept = {subject: found["response_threshold"] for subject, found in several.items()}
    assert kept["$JS.API.DIRECT.GET.EVENTS"] == kept["$JS.API.CONSUMER.MSG.NEXT.WORK.*"] == f"{ANSWERS}s"
    assert 2 * max(feed.PULL_WAIT, broker.REPLICA_WAIT) < ANSWERS
    assert {kept[subject] for subject in kept if "told" in subject} == {"120s"}, "its library decides how long it waits"


def test_the_server_soon_forgets_the_way_back_of_a_request_that_nobody_answers() -> None:
    """Any publisher and any pool can send requests that are dropped."""
    made = accounts(KEYS, {}, {"told": "UABC"}, {})
    told = {(name, found["service"]): found for name in made for found in made[name]["exports"] if "service" in found}
    assert told["STINT_API", output_subject("*", "*", "*")]["response_threshold"] == TOLD_WITHIN
    assert told["STINT_PROJECTOR", consumer_subject("*")]["response_threshold"] == TOLD_WITHIN
    assert max(making.ANSWER, output.ASKED) < float(TOLD_WITHIN.removesuffix("s"))


def test_the_only_stream_that_takes_atomic_batches_is_the_projectors() -> None:
    """NATS has few places for them in a stream, and keeps what is not finished on its disk, in no quota."""
    assert [config["name"] for config in stream_configs(1) if config.get("allow_atomic")] == [kv_stream(JOBS_BUCKET)]
