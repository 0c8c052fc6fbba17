"""Keeps the output of each job in a file, once it is proven to be what the job's runner recorded.

Usage: python -m examples.collect FOLDER NAME [SECONDS], where NAME is the subscriber; see `subscriber.py` for what it
needs. It may be stopped at any time: each chunk is stored before it is acknowledged, and storing it twice changes
nothing. After a job's end it waits for its output for SECONDS (60): the output may have been removed while nobody
collected it.
"""

import argparse
import asyncio
import hashlib
import json
from pathlib import Path

from examples.subscriber import connected, messages, run
from nats.aio.client import Client


async def chunks(connection: Client, folder: Path, name: str) -> None:
    """Store each chunk of output in a file of its own."""
    async for message in messages(connection, "LOGS", name):
        _, _, job_id = message.subject.split(".")
        parts = folder / f"{job_id}.parts"
        parts.mkdir(exist_ok=True)
        (parts / str(int((message.headers or {})["Stint-Chunk"]))).write_bytes(message.data)
        await message.ack()


async def ends(connection: Client, folder: Path, name: str, patience: int) -> None:
    """Join the chunks of a job that has ended. If some have not come yet, look again a second later."""
    async for message in messages(connection, "EVENTS", name):
        _, job_id, _, kind = message.subject.split(".")
        if kind != "ended" or joined(folder, job_id, json.loads(message.data)):
            await message.ack()
        elif message.metadata.num_delivered <= patience:
            await message.nak(delay=1)
        else:
            print(f"{job_id}: not all of the output is there", flush=True)
            await message.ack()


def joined(folder: Path, job_id: str, ended: dict[str, str | int]) -> bool:
    """Write the job's output, if all of it is there and its digest is the recorded one."""
    paths = [folder / f"{job_id}.parts" / str(number) for number in range(1, int(ended.get("chunks", 0)) + 1)]
    if not all(path.exists() for path in paths):
        return False
    digest, output = "", [path.read_bytes() for path in paths]
    for chunk in output:
        digest = hashlib.sha256(digest.encode() + chunk).hexdigest()
    if digest != ended.get("output_digest", ""):
        print(f"{job_id}: the output is not what the job's runner recorded", flush=True)
        return True
    (folder / f"{job_id}.log").write_bytes(b"".join(output))
    print(f"{job_id}: {len(b''.join(output))} bytes of output", flush=True)
    return True


async def main(folder: Path, name: str, seconds: int) -> None:
    """Collect until interrupted."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    connection = await connected()
    await asyncio.gather(chunks(connection, folder, name), ends(connection, folder, name, seconds))


parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("name")
parser.add_argument("seconds", type=int, nargs="?", default=60)
run(main(**vars(parser.parse_args())))
