"""How much a publisher may send, whatever NATS tells of it when, and how many logins of an owner are good at a time."""

import math
from collections.abc import Mapping

import pytest

from stint.natsauth.callout.rates import (
    BURST,
    KEPT_OUT,
    LOOKS,
    MISSED,
    READS,
    SHARE,
    SILENT,
    WRITTEN,
    Listed,
    Rates,
    Sent,
    Stored,
)
from stint.natsauth.callout.rule import LoginRefusedError
from stint.natsauth.callout.service import Logins

RATE = 100
MOST = int(RATE * BURST)
ONE, TWO = "one", "two"
"""Servers."""
MALLORY, OTHER = "mallory", "other"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rates(clock: Clock) -> Rates:
    """It has seen a list of the first server, at 0."""
    rates = Rates(RATE, monotonic=clock)
    rates.listed(ONE, 0, {})
    return rates


def by(owner: str, **sent: int) -> Mapping[int, Listed]:
    """A list with connections of this owner, by `n` and their numbers."""
    return {int(name[1:]): Listed(owner, Sent(messages, 0)) for name, messages in sent.items()}


def test_who_sends_as_fast_as_it_may_goes_on_and_who_sends_a_little_faster_does_not(rates: Rates, clock: Clock) -> None:
    found: list[str] = []
    second = 0
    while not found:
        second += 1
        closed = rates.listed(ONE, second, {**by(MALLORY, n1=102 * second), **by(OTHER, n2=100 * second)})
        assert closed == []
        found = rates.judge(RATE)
    assert (found, second) == ([MALLORY], MOST // 2 + 1), "by then it is above the burst"
    assert rates.listed(ONE, second, {**by(MALLORY, n1=102 * second), **by(OTHER, n2=100 * second)}) == [1]
    assert rates.keeps_out(MALLORY)
    assert not rates.keeps_out(OTHER)
    clock.now += KEPT_OUT
    assert not rates.keeps_out(MALLORY)


def test_all_connections_of_an_owner_count_together_and_so_do_those_that_no_list_contains(rates: Rates) -> None:
    rates.listed(ONE, 0, by(MALLORY, n1=MOST // 2, n2=MOST // 4))
    assert rates.judge(RATE) == []
    for number, sent in ((3, MOST // 4), (4, 1)):
        rates.opened(ONE, number, MALLORY)
        assert rates.judge(RATE) == []
        rates.closed(ONE, number, Sent(sent, 0))
    assert rates.judge(RATE) == [MALLORY]


@pytest.mark.parametrize(
    "lists", [["before"], ["after"], ["before", "after"], ["absent", "before"], ["absent"] * MISSED]
)
def test_what_is_told_of_an_end_earlier_or_later_than_a_list_counts_once(rates: Rates, lists: list[str]) -> None:
    """`before` is a list in which the connection still is."""
    sent = {"before": by(OTHER, n1=MOST - 1), "after": {}, "absent": {}}
    rates.listed(ONE, 0, by(OTHER, n1=MOST))
    for name in [name for name in lists if name == "absent"]:
        rates.listed(ONE, 0, sent[name])
    rates.closed(ONE, 1, Sent(MOST, 0))
    for name in [name for name in lists if name != "absent"]:
        rates.listed(ONE, 0, sent[name])
    rates.closed(ONE, 1, Sent(MOST, 0))
    assert rates.judge(RATE) == []


def test_an_end_of_which_nobody_knows_the_beginning_does_not_count(rates: Rates) -> None:
    rates.listed(ONE, 0, by(OTHER, n1=0))
    for _ in range(MISSED + 1):
        rates.listed(ONE, 0, {})
    rates.closed(ONE, 1, Sent(10 * MOST, 0))
    rates.closed(ONE, 2, Sent(10 * MOST, 0))
    rates.closed(TWO, 1, Sent(10 * MOST, 0))
    assert rates.judge(RATE) == []


def test_a_connection_is_whose_it_was_at_its_first_login(rates: Rates) -> None:
    rates.opened(ONE, 1, MALLORY)
    rates.opened(ONE, 1, OTHER)
    rates.listed(ONE, 0, by("", n1=MOST))
    rates.listed(ONE, 0, by(OTHER, n1=MOST + 1))
    assert rates.judge(RATE) == [MALLORY]
    assert rates.listed(ONE, 0, by(OTHER, n1=MOST + 1)) == [1]


def test_of_a_server_that_is_new_here_or_was_silent_only_what_follows_counts(rates: Rates) -> None:
    rates.opened(TWO, 7, MALLORY)
    rates.listed(TWO, 0, by(MALLORY, n7=10 * MOST))
    assert rates.judge(RATE) == []
    for _ in range(SILENT + 1):
        assert rates.judge(RATE) == []
    rates.listed(TWO, 0, by(MALLORY, n7=20 * MOST))
    assert rates.judge(RATE) == []
    rates.listed(TWO, 0, by(MALLORY, n7=21 * MOST + 1))
    assert rates.judge(RATE) == [MALLORY]


def test_lists_that_come_late_are_as_good_as_others(rates: Rates) -> None:
    for _ in range(SILENT - 1):
        rates.judge(RATE)
    rates.listed(ONE, 60, by(OTHER, n1=60 * RATE + MOST))
    assert rates.judge(RATE) == []


def test_a_servers_clock_that_is_set_back_keeps_nobody_out(rates: Rates) -> None:
    rates.listed(ONE, 0, by(OTHER, n1=1))
    rates.listed(ONE, -3600, by(OTHER, n1=2))
    assert rates.judge(RATE) == []


def test_servers_of_a_cluster_do_not_multiply_the_rate(rates: Rates) -> None:
    rates.listed(TWO, 0, {})
    found: list[str] = []
    for second in range(1, MOST // RATE + 2):
        assert not found
        rates.listed(ONE, second, by(MALLORY, n1=RATE * second))
        rates.listed(TWO, second, by(MALLORY, n1=RATE * second))
        found = rates.judge(RATE)
    assert found == [MALLORY]


def test_who_only_reads_goes_on_and_is_judged_by_what_it_sends_once_that_is_stored(rates: Rates) -> None:
    rates.listed(ONE, 0, by(MALLORY, n1=10 * MOST))
    assert rates.judge(RATE * WRITTEN - 1) == []
    rates.listed(ONE, 1, by(MALLORY, n1=10 * MOST))
    assert rates.judge(RATE) == [], "what it has read before is no debt"
    rates.listed(ONE, 1, by(MALLORY, n1=10 * MOST + RATE + 1))
    assert rates.judge(RATE * WRITTEN) == [MALLORY]


def test_who_only_reads_is_kept_out_if_it_keeps_others_from_it(rates: Rates) -> None:
    for second in range(60):
        rates.listed(ONE, second, by(OTHER, n1=int(READS) * second))
        assert rates.judge(0) == []
    found: list[str] = []
    while not found:
        second += 1
        rates.listed(ONE, second, {**by(OTHER, n1=int(READS) * second), **by(MALLORY, n2=6 * int(READS) * second)})
        found = rates.judge(0)
    assert (found, second) == ([MALLORY], 60)
    assert rates.judge(0) == []


def test_a_higher_rate_lets_whoever_only_reads_send_as_much() -> None:
    rates = Rates(10 * READS)
    rates.listed(ONE, 0, {})
    rates.listed(ONE, 0, by(OTHER, n1=int(9 * READS * BURST)))
    assert rates.judge(0) == []


def test_what_is_stored_is_counted_like_what_is_sent_and_a_purge_takes_nothing_of_it() -> None:
    stored = Stored()
    assert stored.look(1, [Sent(1000, 1000 * SHARE), Sent(0, 0)]) == math.inf, "nobody knows when that was"
    assert stored.look(2, [Sent(1010, 1000 * SHARE), Sent(2, 18 * SHARE)]) == 30
    assert stored.look(3, [Sent(1010, 0), Sent(32, 18 * SHARE)]) == 30
    assert stored.look(4, [Sent(0, 0), Sent(32, 78 * SHARE)]) == 40, "one was made anew"


def test_what_was_stored_at_once_counts_for_as_long_as_a_bucket_takes_to_leak() -> None:
    stored = Stored()
    stored.look(0, [Sent(0, 0)])
    found = [stored.look(look, [Sent(RATE, 0)]) for look in range(1, LOOKS + 2)]
    assert found == [*(RATE / look for look in range(1, LOOKS + 1)), 0]


def test_large_messages_count_more(rates: Rates) -> None:
    rates.listed(ONE, 0, {1: Listed(MALLORY, Sent(1, MOST * SHARE)), 2: Listed(OTHER, Sent(1, SHARE))})
    assert rates.judge(RATE) == [MALLORY]


def test_whoever_is_kept_out_and_sends_on_is_kept_out_longer_and_named_once(rates: Rates, clock: Clock) -> None:
    rates.listed(ONE, 0, by(MALLORY, n1=1000 * MOST))
    assert rates.judge(RATE) == [MALLORY]
    clock.now += KEPT_OUT / 2
    rates.listed(ONE, KEPT_OUT / 2, by(MALLORY, n1=2000 * MOST))
    assert rates.judge(RATE) == []
    clock.now += KEPT_OUT / 2
    assert rates.judge(RATE) == []
    assert rates.keeps_out(MALLORY)
    clock.now += KEPT_OUT / 2
    assert not rates.keeps_out(MALLORY), "however much it was"


def test_an_owner_has_so_many_logins_until_one_ends_and_others_have_theirs() -> None:
    now = 0.0
    logins = Logins(2, monotonic=lambda: now)
    logins.count("ci", 30)
    logins.count("ci", 5)
    with pytest.raises(LoginRefusedError, match="too many connections"):
        logins.count("ci", 30)
    logins.count("other", 30)
    now = 5.0
    logins.count("ci", 30)
    with pytest.raises(LoginRefusedError):
        logins.count("ci", 30)
