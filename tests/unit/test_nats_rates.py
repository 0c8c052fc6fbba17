"""How much a publisher may send, and that what it has sent counts once."""

import pytest

from stint.natsauth.callout.rates import BURST, KEPT_OUT, SHARE, Rates, Sender

RATE = 100.0
MOST = int(RATE * BURST)


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
    """It has seen a list of the server."""
    rates = Rates(RATE, monotonic=clock)
    rates.listed("one", [])
    return rates


def sender(messages: int, *, number: int = 1, server: str = "one", owner: str = "mallory", octets: int = 0) -> Sender:
    return Sender(server, number, f"ci {number} {owner}", messages, octets)


def test_who_sends_as_fast_as_it_may_goes_on_and_who_sends_a_little_faster_does_not(rates: Rates, clock: Clock) -> None:
    for second in range(1, 101):
        clock.now += 1
        rates.listed("one", [sender(100 * second), sender(102 * second, number=2, owner="faster")])
        found = rates.judge()
        assert found == (["faster"] if second == 51 else []), "by so much it is above the burst"
        if found:
            break
    assert rates.keeps_out("faster")
    assert not rates.keeps_out("mallory")
    clock.now += KEPT_OUT
    assert not rates.keeps_out("faster")


def test_all_connections_of_an_owner_count_together_and_so_do_those_that_are_closed(rates: Rates) -> None:
    rates.listed("one", [sender(MOST // 2, number=1), sender(MOST // 4, number=2)])
    assert rates.judge() == []
    rates.closed(sender(MOST // 2, number=1))
    rates.listed("one", [sender(MOST // 2, number=2)])
    assert rates.judge() == []
    rates.closed(sender(1, number=3))
    assert rates.judge() == ["mallory"]


def test_what_a_list_still_contains_after_its_end_counts_once(rates: Rates) -> None:
    rates.listed("one", [sender(MOST)])
    rates.closed(sender(MOST))
    rates.listed("one", [sender(MOST)])
    assert rates.judge() == []


def test_of_a_server_that_is_new_here_only_what_follows_counts(rates: Rates) -> None:
    rates.closed(sender(10 * MOST, server="two"))
    rates.listed("two", [sender(10 * MOST, server="two", number=7)])
    assert rates.judge() == []
    rates.listed("two", [sender(11 * MOST + 1, server="two", number=7)])
    assert rates.judge() == ["mallory"]


def test_large_messages_count_more(rates: Rates) -> None:
    rates.listed("one", [sender(1, octets=MOST * SHARE), sender(1, number=2, owner="other", octets=SHARE)])
    assert rates.judge() == ["mallory"]


def test_whoever_is_kept_out_and_sends_on_is_kept_out_longer_and_named_once(rates: Rates, clock: Clock) -> None:
    rates.listed("one", [sender(1000 * MOST)])
    assert rates.judge() == ["mallory"]
    clock.now += KEPT_OUT / 2
    rates.listed("one", [sender(2000 * MOST)])
    assert rates.judge() == []
    clock.now += KEPT_OUT / 2
    assert rates.judge() == []
    assert rates.keeps_out("mallory")
    clock.now += KEPT_OUT / 2
    assert not rates.keeps_out("mallory"), "however much it was"
