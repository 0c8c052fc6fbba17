"""What a job's secrets may look like in its output."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

SHORTEST: Final = 4
"""Characters: what is shorter is found everywhere by chance, and is left alone."""


def spellings(values: Iterable[Any]) -> set[bytes]:
    r"""What to look for so that these JSON values are found: each text and number in them, of 4 characters or more.

    Besides itself: as the secrets file spells it (in JSON, and in YAML at the file's first level), without the line
    breaks at its end, which shells drop, and with `\r\n` for each line break, as terminals print it.
    """
    leaves = (leaf for leaf in _leaves(values) if len(str(leaf)) >= SHORTEST)
    forms = {form for leaf in leaves for form in _spelt(leaf) if len(form) >= SHORTEST}
    forms |= {form.replace("\n", "\r\n") for form in forms}
    return {form.encode(errors="surrogatepass") for form in forms}


def _leaves(values: Iterable[Any]) -> Iterator[str | float]:
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, (list, tuple)):
            left.extend(value)
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield value


def _spelt(leaf: str | float) -> Iterator[str]:
    if isinstance(leaf, str):
        body = leaf.rstrip("\r\n")
        yield from (leaf, body)
        yield from (json.dumps(body)[1:-1], json.dumps(body, ensure_ascii=False)[1:-1])
        yield body.replace("'", "''")  # between YAML's single quotes
        yield re.sub(r"\n(?!\n)", "\n  ", body)  # YAML's block of lines
    else:
        number = json.dumps(leaf)
        yield number
        if "." not in number:
            yield number.replace("e", ".0e")  # YAML's way with exponents
