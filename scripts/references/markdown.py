"""Tables, and what docstrings say, as Markdown."""

import ast
import inspect
import re
from collections.abc import Iterable, Mapping


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(_inline(cell) for cell in line)} |" for line in lines)


def _inline(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def member_docs(shape: type) -> dict[str, str]:
    """The string under each assignment of a class, by the name that is assigned to."""
    body = ast.parse(inspect.getsource(shape)).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - tells the type checker what a class's source is
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def attribute_docs(shape: type) -> Mapping[str, str]:
    """What the docstrings of a class and its bases say of its attributes."""
    found: dict[str, str] = {}
    for cls in reversed(shape.__mro__):
        attributes = inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", attributes, re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def code(words: Iterable[object]) -> str:
    """Words as code, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)
