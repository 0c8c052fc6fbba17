"""The routes that say who did what."""

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stint.core.subjects import normalise_queue_name, queue_token
from stint_api.audit.table import NEWEST, WantedEntries
from stint_api.audit.trail import Shown
from stint_api.read.query import microseconds, moment_of
from stint_api.routes.models import ActionBody, AuditBody
from stint_api.routes.parameters import Caller, Decimal, ServicesOf, Time
from stint_api.routes.responses import NEXT_PAGE, errors
from stint_api.submit.storing import rfc3339

AUDIT: Final = "/v1/api/audit"
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100

router = APIRouter(tags=["audit"], responses=errors(400, 403, 429, 500, 503))


class AuditQuery(BaseModel):
    """Which actions to list. Unknown parameters are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    qname: Annotated[str, AfterValidator(normalise_queue_name)] | None = None
    """Only actions in this queue."""
    since: Time | None = None
    """Only actions since this time."""
    who: str | None = None
    """Only actions of this display name, identity, accessor or NATS user."""
    limit: Decimal = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    """Actions per page."""
    cursor: Decimal | None = None
    """Only actions behind this place. Follow `Link` from page to page."""


@router.get(AUDIT, responses={200: {"headers": NEXT_PAGE}})
async def audit(
    services: ServicesOf, request: Request, response: Response, caller: Caller, query: Annotated[AuditQuery, Query()]
) -> AuditBody:
    """Who submitted, killed, deleted and released jobs, newest first, in the queues that the caller may read."""
    wanted = WantedEntries(
        token=None if query.qname is None else queue_token(query.qname),
        since=microseconds(query.since) if query.since else None,
        who=query.who or None,
        behind=NEWEST if query.cursor is None else query.cursor,
    )
    trail = await services.audit.find(caller, wanted, query.limit)
    if trail.next is not None:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        response.headers["Link"] = f'<?{urlencode([*kept, ("cursor", trail.next)])}>; rel="next"'
    return AuditBody(
        data=[_body(shown) for shown in trail.shown], now=rfc3339(services.now()), as_of=rfc3339(trail.as_of)
    )


def _body(shown: Shown) -> ActionBody:
    entry = shown.entry
    return ActionBody(
        **{"from": entry.address},
        at=rfc3339(moment_of(entry.at)),
        who=entry.who,
        entity=entry.entity,
        accessor=entry.accessor,
        nats_user=entry.nats_user,
        action=entry.kind,
        qname=shown.qname,
        job=entry.job,
        answer=shown.answer,
        status=shown.status,
        proven=shown.proven,
    )
