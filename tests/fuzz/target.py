"""What a target is, and how its inputs are made."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from stint.core.errors import StintError

CORPUS: Final = Path(__file__).parent / "corpus"
MARK: Final = "h7Wq2-marked-secret"
"""Stands for secret text in the corpus: no error may contain it."""
PROCESSOR_SECONDS: Final = 2.0
"""For one input, none of which is large: what takes longer can be used to hold up others."""
PHASES: Final = (Phase.generate, Phase.shrink)
"""No explanation: it traces each line that runs, which takes minutes for some targets."""


@contextmanager
def refused_well(*errors: type[StintError]) -> Iterator[None]:
    """The input may be refused with one of these errors, whose sentence shows no secret of it."""
    try:
        yield
    except errors as error:
        if MARK in error.sentence:
            raise AssertionError("The refusal shows a secret of the input.") from error


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something that reads bytes from outside.

    Attributes:
        name: that of its folder in the corpus.
        check: raises if something does not hold for these bytes. It also gets the value of the fixture.
        words: pieces of the format, to be put into changed cases.
        fixture: name of the fixture with the servers that it needs.
        brief: number of inputs in the short profile.
    """

    name: str
    check: Callable[[bytes, Any], None]
    words: Sequence[bytes] = ()
    fixture: str = ""
    brief: int = 100

    @property
    def corpus(self) -> Mapping[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())}

    def run(self, data: bytes, servers: Any) -> None:
        """Check one input, and how long that takes."""
        began = time.process_time()
        try:
            self.check(data, servers)
            assert time.process_time() - began < PROCESSOR_SECONDS, "an input that holds up others"
        except Exception as error:
            error.add_note(f"A case for tests/fuzz/corpus/{self.name}: {data!r}")
            raise

    def try_changed(self, servers: Any, examples: int, number: int = 0) -> None:
        """Check so many changed cases and random bytes. The same number always gives the same ones."""

        @seed(number)
        @settings(max_examples=examples, database=None, derandomize=False, phases=PHASES)
        @given(st.binary() | changed([*self.corpus.values()], self.words))
        def attempt(data: bytes) -> None:
            self.run(data, servers)

        attempt()


@st.composite
def changed(draw: st.DrawFn, cases: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A case of the corpus with some pieces replaced, removed, repeated or taken from another case."""
    data = bytearray(draw(st.sampled_from(cases)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        other = draw(st.sampled_from(cases))
        taken = draw(st.integers(0, len(other)))
        pieces = st.binary(max_size=8) | st.just(other[taken : taken + 40]) | st.just(bytes(data[start:end]) * 9)
        data[start:end] = draw(pieces | st.sampled_from(words) if words else pieces)
    return bytes(data)
