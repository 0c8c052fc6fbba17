"""Looks at Vault: whether it answers, and what the token may do."""

from collections.abc import Mapping
from typing import Final

import httpx

from stint.cli.doctor.finding import Finding, bad, clock, ok, warn, words
from stint.cli.settings import without_login
from stint.client import Endpoints
from stint.core.errors import ConfigError, StintError, VaultDeniedError
from stint.vault.client import Vault
from stint.vault.hvac_adapter import check_address
from stint.vault.policies import CLIENT, queue_path

_STATES: Final[Mapping[int, tuple[str, str]]] = {
    501: ("is not initialised", "vault operator init, then: stint vault-setup"),
    503: ("is sealed", "vault operator unseal"),
}
_SHORT: Final = 600.0
"""Seconds: a token that ends sooner may end while a job is followed."""


async def look(where: Endpoints, queue: str | None) -> list[Finding]:
    """Whether Vault answers, and whether the token may do what `stint run` does; in one queue, if that is given."""
    url = without_login(where.vault_addr)
    mend = "Start Vault, or correct VAULT_ADDR and VAULT_CACERT: `stint config` shows where they are from."
    try:
        address = check_address(where.vault_addr)
        async with httpx.AsyncClient(verify=where.vault_cacert or True, timeout=10) as http:
            answer = await http.get(f"{address}/v1/sys/health?standbyok=true&perfstandbyok=true")
    except ConfigError as error:
        return [bad("vault", error.sentence, mend)]
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return [bad("vault", f"{url} is not reachable: {words(error)}.", mend)]
    if answer.status_code in _STATES:
        state, mend = _STATES[answer.status_code]
        return [bad("vault", f"{url} {state}", mend)]
    found = [ok("vault", f"{url} is unsealed"), *clock("vault", answer.headers)]
    try:
        async with Vault(where.vault_addr, cacert=where.vault_cacert) as vault:
            return [*found, await _token(vault, where.token), *await _rights(vault, where, queue)]
    except VaultDeniedError:
        unknown = "Vault does not know the token: it has ended, or is another Vault's."
        return [*found, bad("token", unknown, "stint login, or vault login")]
    except StintError as error:
        return [*found, bad("vault", error.sentence, "Look at Vault's log.")]


async def _token(vault: Vault, token: str) -> Finding:
    caller = await vault.lookup_self(token)
    who = f"{caller.display_name}, with the policies {', '.join(caller.policies)}"
    if 0 < caller.ttl < _SHORT:
        return warn("token", f"{who}; it ends in {caller.ttl:.0f} s", "vault token renew, or stint login")
    if caller.num_uses:
        mend = "Use a token without a limit: each request to Stint takes a use."
        return warn("token", f"{who}; it has {caller.num_uses} uses left", mend)
    return ok("token", who)


async def _rights(vault: Vault, where: Endpoints, queue: str | None) -> list[Finding]:
    needed = {
        f"transit/encrypt/{where.role}": ("update", "seal jobs"),
        f"auth/approle/role/{where.role}/secret-id": ("update", "request wrapped secret ids"),
        "auth/token/create": ("update", "create the token that hands over a job"),
    }
    if queue is not None:
        needed[queue_path(queue)] = ("create", f"submit jobs to {queue!r}")
    held = await vault.own_capabilities(where.token, [*needed])
    mend = f"Give it the policy {CLIENT} (stint vault-setup creates it), and check STINT_ROLE, which is {where.role}."
    missing = [
        bad("policies", f"the token may not {what} ({capability} on {path})", mend)
        for path, (capability, what) in needed.items()
        if not {capability, "root"} & held[path]
    ]
    return missing or [ok("policies", "the token may do all that `stint run` does")]
