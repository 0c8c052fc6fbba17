"""Prints a line whenever a job has ended or was rejected, or its queue waits because its runner was lost.

Usage: python -m examples.notify NAME, where NAME is the subscriber; see `subscriber.py` for what it needs.
"""

import argparse
import json

from examples.subscriber import connected, messages, run


async def main(name: str) -> None:
    """Print until interrupted. After a restart it continues with what was not acknowledged."""
    connection = await connected()
    async for message in messages(connection, "EVENTS", name):
        _, job_id, _, kind = message.subject.split(".")
        match kind:  # others may be of publishers, and need not be JSON; a later version may have further kinds
            case "ended" | "rejected":
                event = json.loads(message.data)
                said = (job_id, event.get("status", kind), event.get("reason"), event.get("error"))
                print(*filter(None, said), flush=True)
            case "held":
                runner = json.loads(message.data)["runner"]
                print(f"{job_id} waits for {runner}: bring it back, or `stint release {job_id}`", flush=True)
        await message.ack()


parser = argparse.ArgumentParser()
parser.add_argument("name")
run(main(**vars(parser.parse_args())))
