"""Writes what the documents say about the code, from the code itself: `make docs`.

Replaces what is between marks such as `<!-- routes: make docs -->` and `<!-- /routes -->`; the rest is written by hand.
"""

import json
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Final

from scripts.references.api import api_blocks, application
from scripts.references.bus import channels, diagram, events, states
from scripts.references.settings import settings
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from stint import __version__
from stint.cli.app import app
from stint.core.schema import asyncapi

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs" / "reference"
TOLD: Final = ROOT / "docs" / "events.md"
EXAMPLES: Final = ("subscriber", "notify", "collect")
"""Programs that are shown in a document as they are."""
MARKED: Final = re.compile(r"(<!-- (\w+): .*? -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def documents() -> dict[Path, str]:
    """The generated documents with the text that they should have. Raises ValueError if one lacks a block's marks."""
    pages = {
        "api": api_blocks(application().openapi()),
        "events": {"diagram": diagram(), "states": states(), "events": events(), "channels": channels()},
        "settings": {"settings": settings()},
    }
    filled = {FOLDER / f"{page}.md": blocks for page, blocks in pages.items()}
    filled[TOLD] = {name: example(ROOT / "examples" / f"{name}.py") for name in EXAMPLES}
    texts = {path: fill(path.read_text(encoding="utf-8"), blocks) for path, blocks in filled.items()}
    contract = json.dumps(asyncapi(__version__), indent=2) + "\n"
    return {**texts, FOLDER / "cli.md": commands(), FOLDER / "asyncapi.json": contract}


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """The text with each block between its marks. Raises ValueError if these are not those of the blocks."""
    marks = [name for _, name, _ in MARKED.findall(text)]
    if sorted(marks) != sorted(blocks):
        raise ValueError(f"The document has the blocks {marks}, and not {[*blocks]}.")
    return MARKED.sub(lambda found: f"{found[1]}{blocks[found[2]]}\n{found[3]}", text)


def example(path: Path) -> str:
    """A Python program as a block of Markdown."""
    return f"```python\n{path.read_text(encoding='utf-8')}```"


def commands() -> str:
    """The document that `typer stint.cli.app utils docs` writes, with its entities as characters."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="stint", title="The command line")
    return f"{unescape(text).strip()}\n"


def main() -> None:
    """Write the documents."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
