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


def store(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all: the disk may be full."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


async def chunks(connection: Client, folder: Path, name: str) -> None:
    """Store each chunk of output in a file of its own."""
    async for message in messages(connection, "LOGS", name):
        _, _, job_id = message.subject.split(".")
        parts = folder / f"{job_id}.parts"
        parts.mkdir(exist_ok=True)
        store(parts / str(int((message.headers or {})["Stint-Chunk"])), message.data)
        await message.ack()


async def ends(connection: Client, folder: Path, name: str, patience: int) -> None:
    """Join the chunks of a job that has ended. If that is not its output, look again a second later: more may come."""
    async for message in messages(connection, "EVENTS", name):
        _, job_id, _, kind = message.subject.split(".")
        wrong = join(folder, job_id, json.loads(message.data)) if kind == "ended" else ""
        if wrong and message.metadata.num_delivered <= patience:
            await message.nak(delay=1)
            continue
        if wrong:
            print(f"{job_id}: {wrong}", flush=True)
        await message.ack()


def join(folder: Path, job_id: str, ended: dict[str, str | int]) -> str:
    """Write the job's output, if all of it is there and its digest is the recorded one. Returns what is wrong."""
    paths = [folder / f"{job_id}.parts" / str(number) for number in range(1, int(ended.get("chunks", 0)) + 1)]
    if not all(path.exists() for path in paths):
        return "not all of the output is there"
    digest, output = "", [path.read_bytes() for path in paths]
    for chunk in output:
        digest = hashlib.sha256(digest.encode() + chunk).hexdigest()
    if digest != ended.get("output_digest", ""):
        return "the output is not what the job's runner recorded"
    store(folder / f"{job_id}.log", b"".join(output))
    print(f"{job_id}: {len(b''.join(output))} bytes of output", flush=True)
    return ""


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
