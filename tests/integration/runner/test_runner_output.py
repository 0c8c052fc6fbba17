"""What becomes of a job's output on its way through a real runner: masking, the limit, and what it costs."""

import re
from pathlib import Path

from stint.core.job import Job, State
from tests.support.runner_bench import Bench

MIB = 2**20
REFS = ["PASSWORD@kv/data/demo.password", "NUMBER@kv/data/demo.number"]
PRINT = "P=$(sed -n 's/^PASSWORD: //p' /secrets.yml); "


async def _streams(bench: Bench, job: Job) -> dict[str, str]:
    texts: dict[str, str] = {}
    async for chunk in bench.output.read(job.token, job.job_id):
        texts[chunk.stream] = texts.get(chunk.stream, "") + chunk.data.decode()
    return texts


async def test_secrets_are_masked_in_both_streams_even_when_printed_in_parts(bench: Bench) -> None:
    run = PRINT + (
        'cat /secrets.yml; echo "<$P$P>"; echo $P >&2; printf %s "${P%staple}"; sleep 0.2; echo staple; printf \'corr\''
    )
    async with bench.runner():
        job, end, _ = await bench.ended(run, secret_refs=REFS, mask_secrets=True)
    texts = await _streams(bench, job)
    assert texts["stdout"].endswith("PASSWORD: ***\n<******>\n***\ncorr")
    assert "NUMBER: 7\n" in texts["stdout"]
    assert texts["stderr"] == "***\n"
    assert (end.output_masked, end.output_truncated, end.output_complete) == (5, False, True)
    assert end.output_bytes == sum(map(len, texts.values()))


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


async def test_a_job_goes_on_when_its_output_is_cut(bench: Bench) -> None:
    """Far past the limit, with more than any pipe on the way holds; and the reader is gone by then."""
    line = "0123456789" * 10
    run = f"yes {line} | head -c {8 * MIB}; echo end >&2; exit 3"
    async with bench.runner(output_limit=100_001):
        job, end, text = await bench.ended(run)
    marker = "\n[output truncated at 100001 bytes]\n"
    assert text == f"{line}\n" * 990 + line[:11] + marker
    assert (job.state, end.reason, end.return_code) == (State.FAILED, "exit_code", 3)
    assert (end.output_truncated, end.output_complete, end.output_bytes) == (True, True, 100_001 + len(marker))


async def test_output_does_not_stay_in_memory(bench: Bench) -> None:
    async with bench.runner(output_limit=0):
        await bench.ended("echo warm", secret_refs=REFS)
        before = _memory_from_now()
        run = f"yes $(cat /secrets.yml) | head -c {48 * MIB}"
        _, end = await bench.end(await bench.submit(run, payload={"secret_refs": REFS, "mask_secrets": True}))
    assert _peak() - before < 24 * MIB
    assert (end.return_code, end.output_truncated, end.output_complete) == (0, False, True)
    assert end.output_masked > 100_000


def _memory_from_now() -> int:
    """Bytes that this process has in memory; its peak is counted from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024
