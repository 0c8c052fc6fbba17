"""The filters in a view's address, and what the API is asked for them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, ValidationError

from stint.core.view import rfc3339
from stint_api.routes.exceptions import invalid

Q = TypeVar("Q", bound=BaseModel)

PAGE: Final = 50
"""Rows on a page."""
SINCE: Final[Mapping[str, tuple[str, timedelta]]] = {
    "15m": ("Last 15 min", timedelta(minutes=15)),
    "1h": ("Last hour", timedelta(hours=1)),
    "6h": ("Last 6 hours", timedelta(hours=6)),
    "24h": ("Last day", timedelta(hours=24)),
}


class Filters(ABC):
    """What the address of a view with a list asks for. `names` are its filters', in the order of an address."""

    path: ClassVar[str]
    names: ClassVar[Sequence[str]]
    size = PAGE
    spans = SINCE

    def __init__(self, query: Mapping[str, str]) -> None:
        """`query` is the address' own."""
        self.given = {name: query.get(name, "").strip() for name in self.names}
        self.cursor = query.get("after", "")

    @property
    def span(self) -> timedelta | None:
        """Only what is as late as that."""
        return SINCE[self.given["since"]][1] if self.given["since"] in SINCE else None

    def address(self, **changed: object) -> str:
        """The same view with other filters, or another page of it."""
        query = urlencode({name: value for name, value in {**self.given, **changed}.items() if value})
        return f"{self.path}?{query}" if query else self.path

    def asked(self) -> dict[str, str]:
        """What the API is asked, but for `since`, which is another time whenever it is asked."""
        every = {**self.parameters(), "cursor": self.cursor}
        return {"limit": str(PAGE)} | {name: value for name, value in every.items() if value}

    @abstractmethod
    def parameters(self) -> Mapping[str, str]:
        """The filters as parameters of the API; empty ones are not asked for."""

    def query(self, shape: type[Q], now: datetime) -> Q:
        """What the API is asked now. Raises UndecodableError if there is no such page."""
        since = {"since": rfc3339(now - self.span)} if self.span else {}
        try:
            return shape.model_validate(self.asked() | since)
        except ValidationError as error:
            raise invalid(error.errors()) from None
