"""Health, and where Vault is."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, create_model

from stint_api.read.runners import NUMBERS, WORDS
from stint_api.routes.models.base import SHOWN, Body


class VaultInfoBody(Body):
    """The addresses of Vault."""

    vault_addr: Annotated[str, Field(examples=["http://127.0.0.1:8200"])]
    """For the services."""
    vault_external_addr: Annotated[str, Field(examples=["https://vault.example:8200"])]
    """For clients."""


_FIGURES: Final = ("all_jobs", *(f"{state}_jobs" for state in SHOWN), "unserved_jobs", *NUMBERS, *WORDS)
_TEXTS: Final[dict[str, Any]] = dict.fromkeys(_FIGURES, str)

HealthBody: Final = create_model(
    "HealthBody",
    __doc__="Counts of jobs, and figures of the runners' engines: all of them text.",
    state=Literal["active", "draining"],
    **_TEXTS,
)
