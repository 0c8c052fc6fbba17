"""That a service which signs with a key that NATS does not know is not called ready."""

from stint.natsauth.callout.admissions import ENOUGH, NOT_LET_IN, WITHIN, Admissions

ONE, TWO = "one", "two"
"""Servers."""


def test_clients_of_which_nats_tells_nothing_are_counted_until_it_tells_of_one() -> None:
    now = 1000.0
    admissions = Admissions(monotonic=lambda: now)
    for number in range(ENOUGH + 1):
        admissions.expect(ONE, number)
    admissions.told(ONE, 0)
    admissions.told(TWO, 1)  # another server's
    assert not admissions.missing(), "it may still tell"
    now += WITHIN
    assert not admissions.missing(), "it has told of one since they were expected"
    for number in range(ENOUGH):
        admissions.expect(ONE, number)
    now += WITHIN
    assert admissions.missing() == NOT_LET_IN
    assert admissions.missing() == NOT_LET_IN, "each is counted once, and not forgotten"
    admissions.expect(ONE, 9)
    admissions.told(ONE, 10)
    assert admissions.missing() == NOT_LET_IN, "who is let in without being asked about here says nothing of the key"
    admissions.told(ONE, 9)
    assert not admissions.missing()


def test_a_few_clients_that_leave_say_nothing_of_the_key() -> None:
    now = 1000.0
    admissions = Admissions(monotonic=lambda: now)
    for number in range(3 * ENOUGH):
        for answered in (False, True):
            admissions.expect(ONE, number)
            if answered:
                admissions.told(ONE, number)
        now += WITHIN
        assert not admissions.missing()


def test_of_a_nats_that_tells_nothing_at_all_nothing_is_concluded() -> None:
    now = 1000.0
    admissions = Admissions(monotonic=lambda: now)
    for number in range(ENOUGH):
        admissions.expect(ONE, number)
    now += WITHIN
    assert admissions.missing()
    admissions.forget()
    assert not admissions.missing()
