from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stint.core.errors import InvalidJobIdError, InvalidQueueNameError, InvalidTokenError
from stint.core.names.ids import check_job_id, new_job_id, normalise_queue_name, queue_name, queue_token
from stint.core.names.patterns import QueuePatterns
from stint.core.names.streams import consumer_name
from stint.core.names.subjects import (
    EventAddress,
    is_event,
    is_literal,
    names_job,
    parse_event_subject,
    unreadable_submission,
)

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda name: len(name.lower().encode()) <= 1000)


@given(NAMES)
@example("")
@example("My Queue. With dots, > stars * and spaces")
@example("straße ΑΣ İ 🚀")
@example("x" * 1000)
@example("é" * 500)
def test_every_allowed_name_round_trips_through_its_token(name: str) -> None:
    token = queue_token(name)
    assert queue_name(token) == normalise_queue_name(name) == normalise_queue_name(normalise_queue_name(name))
    assert queue_token(queue_name(token)) == token
    assert not set(token) & set(". *>\t\n"), "one subject token"
    assert len(EventAddress("submitted", token, "0" * 24).subject) < 4096
    assert len(consumer_name(token)) < 255


def test_tokens_that_decode_to_the_same_name_are_refused() -> None:
    assert queue_name("me") == "a"
    for token in ("mf", "mg", "ME", "me======", "", "__", "a"):
        with pytest.raises(InvalidTokenError):
            queue_name(token)


@given(st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567_=AB.* "), max_size=12))
def test_only_canonical_tokens_are_accepted(token: str) -> None:
    with suppress(InvalidTokenError):
        assert queue_token(queue_name(token)) == token


@pytest.mark.parametrize("name", ["x" * 1001, "é" * 501, "a\nb", "\x00", "\x7f", "\u0085", "\ud800"])
def test_names_that_are_not_allowed(name: str) -> None:
    with pytest.raises(InvalidQueueNameError):
        queue_token(name)


@pytest.mark.parametrize("job_id", ["", "0" * 23, "0" * 25, "g" * 24, "0" * 24 + "\n", "\u0660" * 24])
def test_job_ids_are_24_hex_digits(job_id: str) -> None:
    with pytest.raises(InvalidJobIdError, match="Invalid job ID"):
        check_job_id(job_id)


def test_job_ids_order_by_time() -> None:
    assert check_job_id("ABCDEF0123456789abcdef01") == "abcdef0123456789abcdef01"
    assert new_job_id(1_700_000_000_000, b"\xff" * 6) < new_job_id(1_700_000_000_001, b"\x00" * 6)


@pytest.mark.parametrize(
    "subject",
    [
        "ev.000000000000000000000000.ME.submitted",
        "ev.xyz.me.submitted",
        "ev.me.submitted",
        f"pl.{24 * '0'}.me.a",
        "ev.0.0.me.a",
    ],
)
def test_junk_subjects_are_refused(subject: str) -> None:
    with pytest.raises((InvalidTokenError, InvalidJobIdError)):
        parse_event_subject(subject)
    assert not names_job(subject)


def test_a_subject_with_a_wildcard_is_no_event() -> None:
    """NATS stores what somebody publishes there, and no filter finds it."""
    assert is_event("ev.a.b.c")
    assert not is_event("ev.a.>")


@pytest.mark.parametrize("token", ["*", ">", "a\ufffd"])
def test_a_filter_with_a_wildcard_or_with_what_was_no_utf8_finds_another_subject(token: str) -> None:
    assert is_literal("me", "a>", "b*")
    assert not is_literal("me", token)


def test_an_unreadable_submission_has_one_place() -> None:
    assert unreadable_submission(7) == unreadable_submission(7) != unreadable_submission(8)
    assert parse_event_subject(unreadable_submission(7).subject).token == "_bad"
    for kind in ("submitted", "ended"):  # a job there would have no queue, and no view
        assert not names_job(unreadable_submission(7)._replace(kind=kind).subject)


@pytest.mark.parametrize(
    ("text", "served", "others"),
    [
        ("", ["", "a", "net-a"], []),
        ("deploys, NET-*", ["deploys", "net-", "net-a"], ["", "deploys2", "anet-a"]),
        ("*", ["", "a"], []),
        ("a?,[bc]1", ["ab", "b1", "c1"], ["a", "d1"]),
        ("[b]*[,c]]", ["b[", "ba[", "c]]"], ["b", "a["]),
        ("*.prod,\u00fcml\u00c4ut", ["x.prod", "\u00fcml\u00e4ut"], ["prod"]),
    ],
)
def test_patterns_are_those_of_a_shell_in_lower_case(text: str, served: list[str], others: list[str]) -> None:
    patterns = QueuePatterns.parse(text)
    for qname in served + others:
        assert patterns.serves(qname) is (qname in served)
        assert patterns.serves_token(queue_token(qname)) is (qname in served)


def test_what_names_single_queues_does_not_depend_on_its_order_and_a_token_without_a_name_needs_all() -> None:
    assert QueuePatterns.parse("").serves_token("MF")
    assert not QueuePatterns.parse("*").serves_token("MF")
    assert QueuePatterns.parse(" b,a ,b").names == ("a", "b") == QueuePatterns.parse("a,b").names
    assert QueuePatterns.parse("a,b*").names is None
    assert QueuePatterns.parse("").names is None
