import socket

from stint.process.environment import load
from stint.process.settings import ApiSettings
from stint_api.web.server import listen


def test_answers_do_not_wait_for_the_acknowledgement_of_their_first_part() -> None:
    needed = {f"STINT_{name}": name for name in ("API_ROLE_ID", "API_SECRET_ID", "ROLE_ID")}
    listener = listen(load(ApiSettings, {"STINT_HOST": "127.0.0.1", "STINT_PORT": "0", **needed}))
    with listener, socket.create_connection(listener.getsockname()[:2]):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
