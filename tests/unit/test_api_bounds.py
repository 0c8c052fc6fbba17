import socket

import httpx
import pytest

from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint_api.errors import RefusalError
from stint_api.web.bounds import SMALL, RequestBytes
from stint_api.web.server import KEEP_ALIVE, listen


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
