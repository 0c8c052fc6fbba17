"""How often the output of containers that live for milliseconds is lost: attached to, and in the engine's log.

`python -m tests.support.loss_bench [CONTAINERS] [AT_A_TIME]` says how many were not whole. Run it beside other load.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import ContainerSpec, OutputPiece

WRITTEN = b"x\n"


async def count(containers: int, at_a_time: int) -> Counter[str]:
    """Lost outputs by where they were read, and `containers`."""
    spec = ContainerSpec(image="busybox:latest", command=("echo", "x"), network="none")
    engine, counts = DockerEngine(), Counter[str]()
    try:
        left = iter(range(containers))
        await asyncio.gather(*(_some(engine, spec, left, counts) for _ in range(at_a_time)))
    finally:
        await engine.close()
    return counts


async def _some(engine: DockerEngine, spec: ContainerSpec, left: Iterator[int], counts: Counter[str]) -> None:
    for _ in left:
        container = await engine.create(spec)
        try:
            attached = await engine.attach(container, tty=False)
            await engine.start(container)
            read, logged, _ = await asyncio.gather(
                _text(attached), _text(engine.output(container)), engine.wait(container)
            )
            counts["attached"] += read != WRITTEN
            counts["followed log"] += logged != WRITTEN
            counts["log after the end"] += await _text(engine.output(container)) != WRITTEN
            counts["containers"] += 1
        finally:
            await engine.remove(container)


async def _text(pieces: AsyncIterator[OutputPiece]) -> bytes:
    return b"".join([piece.data async for piece in pieces])


if __name__ == "__main__":
    began = time.monotonic()
    found = asyncio.run(count(*(int(word) for word in (*sys.argv[1:], "2000", "12")[:2])))
    sys.stdout.write(f"{dict(found)} in {time.monotonic() - began:.0f} s\n")
