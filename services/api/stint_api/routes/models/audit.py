"""Who did what, and which jobs got a secret."""

from typing import Annotated

from pydantic import Field

from stint.core.audit.trail import DONE
from stint_api.routes.models.base import JOB_ID, AsOf, Body


class ActionBody(Body):
    """Something that somebody did, as an event says."""

    at: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When the log took it."""
    who: Annotated[str, Field(examples=["token-stint-client"])]
    """Vault's display name of the token; if `proven` is false, it may be a name that a direct publisher gave."""
    entity: str
    """Id of the identity in Vault, "" if there is none or it is not known."""
    accessor: Annotated[str, Field(examples=["iT2fxqiZQyQVWDSWUvGwHV4l"])]
    """The token's accessor, "" if it has none or it is not known."""
    nats_user: str
    """A direct publisher's public nkey: the one that signed, or, if `proven` is false, the one that it gave."""
    action: Annotated[str, Field(examples=["submitted"], json_schema_extra={"enum": sorted(DONE)})]
    """The kind of the event."""
    qname: Annotated[str, Field(examples=["deploys"])]
    """The queue; "" if it was done to a runner."""
    job: Annotated[str, Field(examples=[JOB_ID])]
    """The job's id; "" if it was done to a queue or a runner."""
    runner: Annotated[str, Field(examples=[""])]
    """The runner that was asked to drain, otherwise ""."""
    reason: Annotated[str, Field(examples=[""])]
    """Why a queue was paused, in the operator's own words, otherwise ""."""
    from_: Annotated[str, Field(alias="from", examples=["10.2.3.4"])]
    """The address from which the API got the request, "" if that is not recorded."""
    answer: Annotated[str, Field(json_schema_extra={"enum": ["accepted", "ignored", "rejected"]})]
    """`accepted`; `ignored` if the job's state did not allow it; `rejected` for a malformed submission."""
    status: Annotated[str, Field(examples=["success"])]
    """The job's status now, which may be `deleted`; "" if it is not a job of this queue."""
    proven: bool
    """Whether all that `who`, `entity`, `accessor` and `nats_user` say is proven: the API has written this, and they
    are what Vault said to it; or a direct publisher has signed it. Otherwise a direct publisher of the queue can have
    written it, with other names."""
    claimed: str
    """The name that a direct publisher gave, where something else is proven, otherwise ""."""


class AuditBody(AsOf):
    """A page of actions, the newest first."""

    data: list[ActionBody]
    """The actions of this page. It may be short although there is a next page."""


class HolderBody(Body):
    """A secret that a job got."""

    at: Annotated[str, Field(examples=["2025-03-12T20:58:57.412Z"])]
    """When the log took the event that the job's container exists."""
    job: Annotated[str, Field(examples=[JOB_ID])]
    """The job's id."""
    qname: Annotated[str, Field(examples=["deploys"])]
    """The queue."""
    who: Annotated[str, Field(examples=["token-stint-client"])]
    """Who submitted the job."""
    status: Annotated[str, Field(examples=["running"])]
    """The job's status now, which may be `deleted`."""
    secret: Annotated[str, Field(examples=["kv/data/demo.password"])]
    """The secret, as `path.key`."""
    version: Annotated[int | None, Field(examples=[7])]
    """The version that it got; null unless the secret is in a KV engine of version 2."""
    outdated: bool
    """Whether a job has got a newer version."""


class LineageBody(AsOf):
    """A page of the jobs that got a secret, the newest first."""

    data: list[HolderBody]
    """The secrets of this page. It may be short although there is a next page."""
    newest: Annotated[int | None, Field(examples=[7])]
    """The newest version that a job got, in the queues that the caller may read."""
