"""Who did what: the filters of the address, and a page of what the API answers to them."""

from collections.abc import Mapping
from typing import Final

from stint.core.view import parse_time
from stint_api.auth import Identity
from stint_api.page.drawn import Row
from stint_api.page.drawn.jobs import Filters
from stint_api.routes.audit import AuditQuery, actions
from stint_api.routes.models.audit import ActionBody
from stint_api.services import Services

_DID: Final = {"kill_requested": "asked to kill", "drain_requested": "asked to drain"}
_UNPROVEN: Final = "A direct publisher of the queue could have written this under another name: nobody has signed it."


class Audited(Filters):
    """What the address asks for."""

    path = "/audit"
    names = ("queue", "by", "since")

    def parameters(self) -> Mapping[str, str]:
        """Those of the API's audit."""
        return {"qname": self.given["queue"], "who": self.given["by"]}

    async def find(self, services: Services, caller: Identity) -> Row:
        """The page that it asks for, as the caller may see it, and the cursor of an `older` one."""
        found, older = await actions(services, caller, self.query(AuditQuery, services.now()))
        return {"rows": [_row(told) for told in found], "older": older}


def _row(told: ActionBody) -> Row:
    """An action. `names` is what else is known of who did it, `note` what should be known of the answer."""
    names = (
        ("identity", told.entity),
        ("token accessor", told.accessor),
        ("NATS user", told.nats_user),
        ("calls itself", told.claimed),
    )
    answer = f"{told.answer}: {told.reason}" if told.reason else told.answer
    return {
        "at": told.at,
        "clock": f"{parse_time(told.at):%m-%d %H:%M:%S} UTC",
        "who": told.who or told.nats_user or "not known",
        "names": ", ".join(f"{what} {name}" for what, name in names if name),
        "did": _DID.get(told.action, told.action),
        "job": told.job,
        "runner": told.runner,
        "qname": "" if told.runner else told.qname or "(no name)",
        "address": told.from_,
        "answer": answer if told.proven else f"{answer}, unproven",
        "note": told.reason if told.proven else _UNPROVEN,
    }
