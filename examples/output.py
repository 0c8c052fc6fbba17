"""Writes the output of a job that is over, once it is proven to be what the job's runner recorded.

Usage: python -m examples.output QUEUE JOB. Nothing of it needs to have been heard before: a publisher that was away
reads it again, as long as it is kept. Needs NATS_URL (STINT_NATS_CACERT if the server's certificate is one of your
own), and STINT_NATS_NKEY_FILE and STINT_NATS_INBOX_PREFIX of a publisher. Uses nothing of Stint.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import sys

from examples.subscriber import connected, run
from nats.aio.client import Client
from nats.aio.msg import Msg

TRIES = 3
"""For a chunk: an API that is asked for too much does not answer all."""


async def read(connection: Client, subject: str, tries: int = TRIES) -> Msg:
    """The answer to a request for a chunk."""
    try:
        answer = await connection.request(subject, timeout=5)
        if tries == 1 or "Stint-Error" not in (answer.headers or {}):
            return answer
        await asyncio.sleep(1)
    except TimeoutError:
        if tries == 1:
            raise
    return await read(connection, subject, tries - 1)


async def main(qname: str, job: str) -> None:
    """Read the job's end and each chunk of its output, by their subjects."""
    connection = await connected()
    queue = base64.b32encode(qname.lower().encode()).decode().rstrip("=").lower() or "_"
    found = await connection.request(f"JS.stint.DIRECT.GET.EVENTS.ev.{job}.{queue}.ended", timeout=10)
    if (found.headers or {}).get("Status") == "404":
        raise SystemExit("The job has not ended.")
    ended = json.loads(found.data)
    output, digest, sequence = [], "", "0"
    for number in range(1, ended.get("chunks", 0) + 1):
        chunk = await read(connection, f"output.{queue}.{job}.{sequence}")
        headers = chunk.headers or {}
        if headers.get("Stint-Chunk") != str(number):
            raise SystemExit(f"Chunk {number} of the output is not kept: {headers.get('Stint-Error', '')}")
        digest, sequence = hashlib.sha256(digest.encode() + chunk.data).hexdigest(), headers["Nats-Sequence"]
        output.append((headers["Stint-Stream"], chunk.data))
    if digest != ended.get("output_digest", ""):
        raise SystemExit("The output is not what the job's runner recorded.")
    for stream, data in output:
        (sys.stderr if stream == "stderr" else sys.stdout).buffer.write(data)
    await connection.close()


parser = argparse.ArgumentParser()
parser.add_argument("queue")
parser.add_argument("job")
given = parser.parse_args()
run(main(given.queue, given.job))
