"""What a publisher takes for the next chunk of an output: anybody in its account could say one live."""

from typing import Any

import msgspec
import pytest

from stint.core.output.chain import Chain, Chunk
from stint.publisher.output import HeardOutput, OutputReader
from tests.support.events import TOKEN
from tests.support.outputs import chained


@pytest.mark.parametrize("wrong", [{"data": b"forged"}, {"digest": "0" * 64}, {"number": 2}, {"offset": 1}])
async def test_what_does_not_continue_the_chain_is_no_output(wrong: dict[str, Any]) -> None:
    _, chunk = chained(Chain(), b"first", sequence=7)
    stored = msgspec.structs.replace(chunk, **wrong)

    class Output(HeardOutput):
        async def read(self, sequence: int) -> Chunk | None:
            assert sequence == 0
            return stored

    output = Output(None, TOKEN, "a" * 24)  # type: ignore[arg-type] # it asks for nothing
    output.hear(stored)
    reader = OutputReader(output)
    assert await reader.next(total=1) is None
    stored = chunk
    assert (await reader.next(total=1), reader.tail) == (chunk, b"first")
