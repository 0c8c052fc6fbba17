"""Reads settings from the environment: their names, their files, and the messages about wrong ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from stint.core.errors import ConfigError

S = TypeVar("S", bound="Shape")

FOREIGN_NAMES: Final = {
    "nats_url": "NATS_URL",
    "role": "GOSTINT_ROLENAME",
    "role_id": "GOSTINT_ROLEID",
    "api_role_id": "GOSTINT_RUN_ROLEID",
    "api_secret_id": "GOSTINT_RUN_SECRETID",
    "port": "GOSTINT_PORT",
    "tls_cert": "GOSTINT_SSL_CERT",
    "tls_key": "GOSTINT_SSL_KEY",
}
"""Names that are read if the setting's own name is not set: those of GoStint and of NATS tools."""


def _environment_names(field: str) -> AliasChoices:
    """`STINT_` and the field's name; for Vault and Docker the names that their own tools use."""
    name = field.upper()
    own = name if name.startswith(("VAULT_", "DOCKER_")) else f"STINT_{name}"
    return AliasChoices(own, *filter(None, [FOREIGN_NAMES.get(field)]))


class Shape(BaseModel):
    """A group of settings. `_environment_names` derives the names in the environment from the fields' names."""

    model_config = ConfigDict(
        frozen=True,
        hide_input_in_errors=True,
        extra="ignore",
        allow_inf_nan=False,
        alias_generator=AliasGenerator(validation_alias=_environment_names),
    )


def load(shape: type[S], environ: Mapping[str, str]) -> S:
    """Read settings. Empty values, and empty files, count as not set.

    Raises ConfigError, which names each setting that is missing or wrong, never its value.
    """
    values = dict(environ)
    for name in setting_names(shape):
        if path := values.get(f"{name}_FILE"):
            values[name] = _read(f"{name}_FILE", path)
    try:
        return shape.model_validate({name: value for name, value in values.items() if value})
    except ValidationError as error:
        raise ConfigError("; ".join(map(_told, error.errors()))) from None


def _told(detail: ErrorDetails) -> str:
    words = "required, but not set" if detail["type"] == "missing" else detail["msg"]
    return ": ".join([*map(str, detail["loc"][:1]), words])


def setting_names(shape: type[Shape]) -> list[str]:
    """The names that a service reads from the environment, without the `_FILE` forms."""
    return [name for field in shape.model_fields.values() for name in names_of(field)]


def names_of(field: FieldInfo) -> list[str]:
    """The names of one setting, its own first."""
    alias = field.validation_alias
    return [*map(str, alias.choices)] if isinstance(alias, AliasChoices) else []


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        # Its path is not shown: it is the secret itself if somebody took the setting for the one without `_FILE`.
        raise ConfigError(f"{name}: the file that it names cannot be read ({type(error).__name__}).") from None
