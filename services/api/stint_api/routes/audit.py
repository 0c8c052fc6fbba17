"""The routes that say who did what, which jobs got which secret, and what became of a job for sure."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stint.core.names.ids import normalise_queue_name, queue_token
from stint.core.view import rfc3339
from stint_api.audit.secrets import NEWEST, WantedSecret
from stint_api.audit.table import WantedEntries
from stint_api.audit.trail import Holder, Shown
from stint_api.auth import Identity
from stint_api.read.listing.query import microseconds, moment_of
from stint_api.routes import jobs
from stint_api.routes.answers import NOT_FOR_PAGES, next_page
from stint_api.routes.models.audit import ActionBody, AuditBody, HolderBody, LineageBody
from stint_api.routes.models.jobs import ReceiptKeysBody
from stint_api.routes.parameters import Caller, Decimal, JobId, ServicesOf, Time, TrueOrFalse
from stint_api.routes.responses import NEXT_PAGE, content, errors
from stint_api.services import Services

AUDIT: Final = "/v1/api/audit"
LINEAGE: Final = "/v1/api/lineage"
RECEIPT_KEYS: Final = "/v1/api/receipt/keys"
_RECEIPT: Final = content(
    "application/json", '{"receipt":{...},"signature":"..."}\n', type="object", required=["receipt", "signature"]
)
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100

router = APIRouter(tags=["audit"], responses=errors(400, 403, 429, 500, 503))


class Paged(BaseModel):
    """Which part of a list to show. Unknown parameters are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    limit: Decimal = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    """How many a page has."""
    cursor: Decimal | None = None
    """Only what is behind this place. Follow `Link` from page to page."""

    @property
    def behind(self) -> int:
        """The place in the index."""
        return NEWEST if self.cursor is None else self.cursor


class AuditQuery(Paged):
    """Which actions to list."""

    qname: Annotated[str, AfterValidator(normalise_queue_name)] | None = None
    """Only actions in this queue."""
    since: Time | None = None
    """Only actions since this time."""
    who: str | None = None
    """Only actions of this display name, identity, accessor or NATS user."""


@router.get(AUDIT, responses={200: {"headers": NEXT_PAGE}})
async def audit(
    services: ServicesOf, request: Request, response: Response, caller: Caller, query: Annotated[AuditQuery, Query()]
) -> AuditBody:
    """Who did what, newest first, to jobs and queues that the caller may read, and to runners that it may drain."""
    as_of = rfc3339(services.audit_index.as_of)
    data, following = await actions(services, caller, query)
    response.headers.update(next_page(request.query_params, following))
    return AuditBody(data=data, now=rfc3339(services.now()), as_of=as_of)


async def actions(services: Services, caller: Identity, query: AuditQuery) -> tuple[list[ActionBody], str]:
    """The actions that it asks for, and the cursor of the next ones, "" if there are none."""
    wanted = WantedEntries(
        token=None if query.qname is None else queue_token(query.qname),
        since=microseconds(query.since) if query.since else None,
        who=query.who or None,
        behind=query.behind,
    )
    found, following = await services.audit.find(caller, wanted, query.limit)
    return [_action(shown) for shown in found], str(following or "")


class LineageQuery(Paged):
    """Which jobs to list."""

    secret: Annotated[str, Field(min_length=1)]
    """The secret as jobs name it, `path.key`; a path alone stands for all of its keys."""
    version: Decimal | None = None
    """Only jobs that got this version."""
    outdated: TrueOrFalse | None = None
    """Only jobs that got an older version than the newest (`true`), or only those that got the newest (`false`)."""


@router.get(LINEAGE, responses={200: {"headers": NEXT_PAGE}})
async def lineage(
    services: ServicesOf, request: Request, response: Response, caller: Caller, query: Annotated[LineageQuery, Query()]
) -> LineageBody:
    """The jobs that got a secret, newest first, in the queues that the caller may read: names and versions only."""
    wanted = WantedSecret(secret=query.secret, version=query.version, outdated=query.outdated, behind=query.behind)
    as_of = rfc3339(services.audit_index.as_of)
    found = await services.audit.holders(caller, wanted, query.limit)
    response.headers.update(next_page(request.query_params, str(found.next or "")))
    return LineageBody(
        data=[_holder(holder) for holder in found.holders],
        newest=found.newest,
        now=rfc3339(services.now()),
        as_of=as_of,
    )


@router.get(f"{jobs.PATH}/{{job_id}}/receipt", response_class=Response, responses=errors(404) | _RECEIPT)
async def receipt(services: ServicesOf, caller: Caller, job_id: JobId) -> Response:
    """A signed statement of what became of a job that is over. `stint verify` checks it without Stint."""
    found = await services.receipts.of(caller, job_id)
    return Response(found, media_type="application/json", headers=NOT_FOR_PAGES)


@router.get(RECEIPT_KEYS)
async def receipt_keys(services: ServicesOf, _caller: Caller) -> ReceiptKeysBody:
    """The public keys of all versions of the key that signs receipts."""
    return ReceiptKeysBody(name=services.receipts.signer.key, keys=await services.receipts.public_keys())


def _holder(holder: Holder) -> HolderBody:
    return HolderBody(
        at=rfc3339(moment_of(holder.given.at)),
        job=holder.given.job,
        qname=holder.qname,
        who=holder.who,
        status=holder.job.state,
        secret=holder.given.name,
        version=holder.given.version,
        outdated=holder.outdated,
    )


def _action(shown: Shown) -> ActionBody:
    """An action as clients see it."""
    entry = shown.entry
    return ActionBody(
        **{"from": entry.address},
        at=rfc3339(moment_of(entry.at)),
        who=shown.by.who,
        entity=shown.by.entity,
        accessor=shown.by.accessor,
        nats_user=shown.by.nats_user,
        action=entry.kind,
        job="" if entry.is_operation else entry.job,
        proven=shown.proven,
        claimed=shown.claimed,
        **shown.action._asdict(),
    )
