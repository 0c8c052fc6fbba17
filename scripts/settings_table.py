"""Writes the table of docs/reference/settings.md from the settings themselves: `python -m scripts.settings_table`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from scripts.state_machine import member_docs, replace_block, table

from stint.process.environment import Shape
from stint.process.settings import (
    ApiSettings,
    EngineSettings,
    LeaseSettings,
    ProjectorSettings,
    RunnerSettings,
    Settings,
)

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
READERS: Final[dict[str, type[Shape]]] = {
    "all": Settings,
    "api": ApiSettings,
    "runner, projector": LeaseSettings,
    "runner": RunnerSettings,
    "runner, watchdog": EngineSettings,
    "projector": ProjectorSettings,
}
"""Who reads a setting, and the class that declares it."""


def settings() -> str:
    """The table."""
    rows = [row for reader, shape in READERS.items() for row in _rows(reader, shape)]
    return table(("setting", "read by", "default", "meaning"), rows)


def _rows(reader: str, shape: type[Shape]) -> Iterator[tuple[str, str, str, str]]:
    words = member_docs(shape)
    for name, field in shape.model_fields.items():
        if name in shape.__annotations__:
            yield _names(field), reader, _default(name, field), words[name]


def _names(field: FieldInfo) -> str:
    alias = field.validation_alias
    names = alias.choices if isinstance(alias, AliasChoices) else ()
    return ", ".join(f"`{name}`" for name in names)


_COMPUTED: Final = {"runner_id": "host name and a random part", "capacity": "twice the CPUs"}
"""Defaults that are made when the settings are read."""


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return _COMPUTED[name]
    if field.default is PydanticUndefined:
        return "must be given; secret" if field.annotation is SecretStr else "must be given"
    if isinstance(field.default, SecretStr):
        return "secret"
    return "" if field.default in {None, ""} else f"`{_plain(field.default)}`"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Rewrite the document."""
    DOCUMENT.write_text(replace_block(DOCUMENT.read_text(encoding="utf-8"), "settings", settings()), encoding="utf-8")


if __name__ == "__main__":
    main()
