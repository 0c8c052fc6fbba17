"""What is said of the settings."""

from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from scripts.references.markdown import code, member_docs, table

from stint.process import settings as shapes
from stint.process.environment import Shape, names_of

READERS: Final[dict[str, type[Shape]]] = {
    "all": shapes.Settings,
    "api": shapes.ApiSettings,
    "runner, projector": shapes.LeaseSettings,
    "runner": shapes.RunnerSettings,
    "runner, watchdog": shapes.EngineSettings,
    "projector": shapes.ProjectorSettings,
    "api, projector, nats-auth": shapes.HistorySettings,
    "nats-auth": shapes.NatsAuthSettings,
}
"""Who reads a setting, and the class that declares it."""
COMPUTED: Final = {"runner_id": "host name and a random part", "capacity": "twice the CPUs"}
"""Defaults that are computed when the settings are read."""


def settings() -> str:
    """A table of the settings, each with its docstring."""
    rows = []
    for reader, shape in READERS.items():
        for name, text in member_docs(shape).items():
            field = shape.model_fields[name]
            rows.append((code(names_of(field)), reader, default_of(name, field), text))
    return table(("setting", "read by", "default", "meaning"), rows)


def default_of(name: str, field: FieldInfo) -> str:
    """A setting's default, in words."""
    if field.default_factory is not None:
        return COMPUTED[name]
    if field.default is PydanticUndefined:
        return "must be given; secret" if field.annotation is SecretStr else "must be given"
    if isinstance(field.default, SecretStr):
        return "secret"
    plain = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    return "" if field.default in {None, ""} else f"`{plain}`"
