"""Writes docs/reference/cli.md from the commands' own help texts. Run as `python -m scripts.cli_doc`."""

from html import unescape
from pathlib import Path
from typing import Final

from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from stint.cli.app import app

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"


def document() -> str:
    """The document, as `typer stint.cli.app utils docs` writes it."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="stint", title="The command line")
    return f"{unescape(text).strip()}\n"


def main() -> None:
    """Rewrite the document."""
    DOCUMENT.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
