"""Draws the jobs' state machine into docs/reference/events.md, from the table that the code itself uses.

Rewrites what is between the marks; the rest of the document is written by hand.
"""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from stint.core.events import EVENT_TYPES
from stint.core.job import LEGAL, TERMINAL, State

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "reference" / "events.md"
NOBODY: Final = "[*]"
"""How a state diagram writes a job that was not submitted yet, and the end."""


def diagram() -> str:
    """A Mermaid diagram with one arrow for each state that an event may lead to."""
    arrows = [
        f"    {before or NOBODY} --> {after}: {kind}"
        for before, facts in LEGAL.items()
        for kind, states in facts.items()
        for after in _in_order(states)
    ]
    ends = [f"    {state} --> {NOBODY}" for state in _in_order(TERMINAL) if not LEGAL[state]]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *ends, "```"])


def states() -> str:
    """A table of the states, each with its docstring."""
    words = member_docs(State)
    rows = [
        (f"`{state}`", words[state.name], "yes" if state in TERMINAL else "", _list(LEGAL[state])) for state in State
    ]
    return table(("state", "meaning", "over", "events that count in it"), rows)


def events() -> str:
    """A table of the events, each with the first paragraph of its class, and the states in which it counts."""
    rows = []
    for kind, shape in EVENT_TYPES.items():
        before = [state or "no job yet" for state, legal in LEGAL.items() if kind in legal]
        rows.append((f"`{kind}`", _summary(shape), ", ".join(before)))
    return table(("event", "meaning", "counts in"), rows)


def member_docs(shape: type) -> dict[str, str]:
    """The string under each assignment of a class, by the name that is assigned to."""
    body = ast.parse(inspect.getsource(shape)).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - tells the type checker what a class's source is
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        name = _assigned(statement)
        if name and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found[name] = " ".join(str(following.value.value).split())
    return found


def _assigned(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def replace_block(text: str, name: str, block: str) -> str:
    """The text with `block` between the marks of this name.

    Raises:
        ValueError: the marks are missing.
    """
    marks = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    replaced, count = marks.subn(lambda found: f"{found[1]}{block}\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"{count} blocks named {name}")
    return replaced


def document(text: str) -> str:
    """The document with everything that is generated from the code written again."""
    for name, block in (("diagram", diagram()), ("states", states()), ("events", events())):
        text = replace_block(text, name, block)
    return text


def _in_order(found: Iterable[State]) -> Iterator[State]:
    wanted = set(found)
    return (state for state in State if state in wanted)


def _list(kinds: Iterable[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds) or "none"


def _summary(shape: type) -> str:
    return " ".join((inspect.getdoc(shape) or "").split("\n\n")[0].split())


def main() -> None:
    """Rewrite the document."""
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
