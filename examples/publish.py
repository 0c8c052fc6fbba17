"""Submits a job straight to NATS, without the REST API, and prints its id: `stint.publisher` in a few lines.

Reads NATS_URL (and STINT_NATS_CACERT and its like where NATS asks for more), VAULT_ADDR, and VAULT_TOKEN with the
policy `stint-publisher`. Says in a sentence why there is no job, or why that is not known.
"""

import asyncio
import sys

import structlog

from stint.core.errors import StintError
from stint.publisher import Publisher


async def main() -> str:
    """Submit a job; returns its id."""
    async with Publisher.from_env() as publisher:
        job = await publisher.submit(queue="deploys", image="busybox", run=["echo", "hello"])
        return job.id


if __name__ == "__main__":
    # What becomes of the connection is logged, by default on standard output, where only the id is to be.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        print(asyncio.run(main()))
    except StintError as error:
        raise SystemExit(error.sentence) from None
