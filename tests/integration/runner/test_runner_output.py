"""What becomes of a job's output on its way through a real runner: masking, the limit, and what it costs."""

import os
import re

from tests.support import memory
from tests.support.runner_bench import Bench

MIB = 2**20
REFS = ["PASSWORD@kv/data/demo.password", "NUMBER@kv/data/demo.number"]


async def test_secrets_of_several_lines_are_masked_on_a_terminal(bench: Bench) -> None:
    secret = {"data": {"key": "-----BEGIN-----\nAAAA\n-----END-----\n", "pin": 90210}}
    root = bench.openbao.root_token
    await bench.vault.call(root, lambda client: client.adapter.post("/v1/kv/data/lines", json=secret))
    refs = ["KEY@kv/data/lines.key", "PIN@kv/data/lines.pin"]
    run = r"printf -- '-----BEGIN-----\nAAAA\n-----END-----\n'; cat /secrets.yml"
    async with bench.runner():
        _, end, text = await bench.ended(run, secret_refs=refs, mask_secrets=True, tty=True)
    assert re.fullmatch(r"\*\*\*---\r\n# [^\r]+\r\nKEY: \|\r\n  \*\*\*\r\nPIN: \*\*\*\r\n", text)
    assert end.output_masked == 3


async def test_output_does_not_stay_in_memory(bench: Bench) -> None:
    async with bench.runner(output_limit=0):
        await bench.ended("echo warm", secret_refs=REFS)
        before = memory.from_now(os.getpid())
        run = f"yes $(cat /secrets.yml) | head -c {48 * MIB}"
        _, end = await bench.end(await bench.submit(run, payload={"secret_refs": REFS, "mask_secrets": True}))
    assert memory.peak(os.getpid()) - before < 24 * MIB
    assert (end.return_code, end.output_truncated, end.output_complete) == (0, False, True)
    assert end.output_masked > 100_000
