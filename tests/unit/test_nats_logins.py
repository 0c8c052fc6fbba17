"""How many logins of one owner are good at a time."""

import pytest

from stint.natsauth.callout.rule import LoginRefusedError
from stint.natsauth.callout.service import Logins


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
