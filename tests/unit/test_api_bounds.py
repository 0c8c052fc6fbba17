import resource
import socket

import httpx
import pytest

from stint.core.errors import ConfigError
from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint.vault.client import CONNECTIONS
from stint_api.__main__ import LOOKUPS
from stint_api.errors import RefusalError
from stint_api.web.bounds import SMALL, RequestBytes
from stint_api.web.server import ACCEPTED_AT_A_TIME, DESCRIPTORS, KEEP_ALIVE, allow_connections, listen


def test_answers_do_not_wait_for_the_acknowledgement_of_their_first_part() -> None:
    needed = {f"STINT_{name}": name for name in ("API_ROLE_ID", "API_SECRET_ID", "ROLE_ID")}
    listener = listen(load(ApiSettings, {"STINT_HOST": "127.0.0.1", "STINT_PORT": "0", **needed}))
    with listener, socket.create_connection(listener.getsockname()[:2]):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_clients_give_up_a_kept_connection_before_the_server_does() -> None:
    """A request that meets the server's close gets no answer."""
    assert KEEP_ALIVE > 10 * (httpx.Limits().keepalive_expiry or 0) > 0


def test_large_requests_leave_room_for_small_ones() -> None:
    held = RequestBytes(10 * SMALL, largest=10 * SMALL)
    with held.share("large") as large, held.share("small") as small:
        large.take(10 * SMALL)
        small.take(SMALL)
        with pytest.raises(RefusalError, match="as many bytes of requests"):
            small.take(1)
    with held.share("large") as large:
        large.take(10 * SMALL)


@pytest.mark.parametrize(
    ("limits", "raised"),
    [((1024, 4096), (2100, 4096)), ((1024, -1), (2100, -1)), ((4096, 4096), None), ((-1, -1), None)],
)
def test_as_many_files_as_the_connections_need_may_be_open(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int] | None
) -> None:
    """Beyond the soft limit, which systemd sets to 1024, uvloop closes connections without a word."""
    settings, found = ApiSettings.model_construct(connections=2000), list[tuple[int, int]]()
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: found.append(wanted))
    allow_connections(settings)
    assert found == ([raised] if raised else [])


def test_there_are_files_for_connections_to_a_slow_vault_too() -> None:
    assert DESCRIPTORS >= CONNECTIONS + LOOKUPS + ACCEPTED_AT_A_TIME + 16


def test_fewer_files_than_the_connections_need_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 2099))
    with pytest.raises(ConfigError, match=r"STINT_CONNECTIONS: 2000 connections need 2100 open files, .* have 2099"):
        allow_connections(ApiSettings.model_construct(connections=2000))
