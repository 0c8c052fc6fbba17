"""Which routes stand at a path, whatever the method."""

from collections.abc import Iterator, Sequence

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute


def routes_at(routes: Sequence[BaseRoute], path: str) -> Iterator[RouteContext]:
    """Those of an application's routes whose template fits the path; those of its routers are among them."""
    for route in iter_route_contexts(routes):
        if route.path_regex.match(path):
            yield route
