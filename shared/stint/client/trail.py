"""Who did what, and which jobs got which secret."""

import msgspec

from stint.client.results import Time


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, rename={"queue": "qname", "address": "from"}):
    """Something that somebody did to a job, a queue or a runner.

    Attributes:
        at: when it was stored.
        who: Vault's display name of the token; if it is not proven, it may be a name that a direct publisher gave.
        entity: id of the identity in Vault, "" if there is none or it is not known.
        accessor: the token's, "" if it has none or it is not known.
        nats_user: a direct publisher's public nkey: the one that signed, or, if not proven, the one that it gave.
        action: `submitted`, `kill_requested`, `deleted` or `released`; of a queue `paused` or `resumed`; of a runner
            `drain_requested`.
        queue: the job's, or the one that was paused or resumed, "" for a runner.
        job: its id, "" for a queue or a runner.
        runner: the one that was asked to drain, otherwise "".
        reason: why a queue was paused, in the operator's own words, otherwise "".
        address: from which the API got the request, "" if that is not recorded.
        answer: `accepted`, `ignored` if the job's state did not allow it, or `rejected` for a malformed submission.
        status: the job's status now, which may be `deleted`; "" if it is not a job of this queue.
        proven: whether the API has written this for sure, or a direct publisher has signed it: then all that `who`,
            `entity`, `accessor` and `nats_user` say is proven. Otherwise it may be a direct publisher's claim.
        claimed: the name that a direct publisher gave, where something else is proven, otherwise "".
    """

    at: Time
    who: str
    entity: str
    accessor: str
    nats_user: str
    action: str
    queue: str
    job: str
    runner: str
    reason: str
    address: str
    answer: str
    status: str
    proven: bool
    claimed: str = ""


class SecretUse(msgspec.Struct, frozen=True, kw_only=True, rename={"queue": "qname"}):
    """A secret that a job got.

    Attributes:
        at: when it was stored that the job's container exists.
        job: the job's id.
        queue: its queue.
        who: who submitted the job.
        status: its status now, which may be `deleted`.
        secret: as jobs name it, `path.key`.
        version: that the job got, None unless the secret is in a KV engine of version 2.
        outdated: whether a job has got a newer version.
    """

    at: Time
    job: str
    queue: str
    who: str
    status: str
    secret: str
    version: int | None
    outdated: bool
