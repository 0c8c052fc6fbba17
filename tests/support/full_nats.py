"""A NATS server whose account can be filled."""

from stint.jetstream import Broker

SMALL = """
accounts: { small: { jetstream: { max_file: 6000000, max_memory: 1000000 }, users: [ { user: a, password: a } ] } }
no_auth_user: a
"""
FILL = "FILL"


async def fill(broker: Broker) -> None:
    """Until there is no room for the smallest message."""
    await broker.api(f"STREAM.CREATE.{FILL}", {"name": FILL, "subjects": [FILL], "storage": "file"})
    for size in (512 * 1024, 16 * 1024, 512, 0):
        while "error" not in await broker.publish(FILL, b"x" * size):
            pass
