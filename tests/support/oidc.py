"""OpenBao as an OIDC provider, and as the Vault that trusts it, set up by the commands of the guide."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx

from stint.vault import Vault
from tests.support.documents import blocks
from tests.support.servers import BAO
from tests.support.stack import finished

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "oidc.md"
ROLE: Final = "people"
USER: Final = "anna"
PASSWORD: Final = "her own"
LOCAL: Final = "http://localhost:8250/oidc/callback"
_NAME: Final = "people"


@dataclass(frozen=True)
class Provider:
    """The provider, at `localhost`: another site than the `127.0.0.1` of everything else.

    Somebody has an account there: `who` for Vault, and a token with which OpenBao's own page would ask.
    """

    issuer: str
    who: str
    account: str = field(repr=False)

    async def answer(self, url: str) -> str:
        """Ask what OpenBao's page at `url` asks, once somebody has signed in there; returns where that page leads."""
        path = urlsplit(url).path.replace("/ui/vault/", "/v1/", 1)
        query = dict(httpx.QueryParams(urlsplit(url).query))
        async with httpx.AsyncClient(base_url=self.issuer, trust_env=False) as http:
            answer = await http.get(path, params=query, headers={"X-Vault-Token": self.account})
        assert answer.status_code == httpx.codes.OK, answer.text
        return f"{query['redirect_uri']}?{urlencode(answer.json())}"


_MADE: dict[tuple[str, str], Provider] = {}
"""By OpenBao's address and root token."""


async def provider(address: str, root: str, stint_url: str) -> Provider:
    """Set both up, the first time; Vault gives tokens for the role `ROLE`. The page is at `stint_url`."""
    if (address, root) not in _MADE:
        _MADE[address, root] = await _set_up(address, root, stint_url)
    return _MADE[address, root]


async def _set_up(address: str, root: str, stint_url: str) -> Provider:
    vault = Vault(address)

    async def write(path: str, **fields: Any) -> None:
        await vault.call(root, lambda client: client.adapter.post(f"/v1/{path}", json=fields))

    await vault.call(root, lambda client: client.sys.enable_auth_method("userpass"))
    await write(f"auth/userpass/users/{USER}", password=PASSWORD)
    login = await vault.call("", lambda client: client.auth.userpass.login(USER, PASSWORD, use_token=False))
    entity = login["auth"]["entity_id"]
    await write(f"identity/oidc/key/{_NAME}", allowed_client_ids="*")
    await write(f"identity/oidc/assignment/{_NAME}", entity_ids=[entity])
    callbacks = [f"{stint_url}/sign-in/oidc/callback", LOCAL]
    await write(f"identity/oidc/client/{_NAME}", key=_NAME, redirect_uris=callbacks, assignments=[_NAME])

    async def read(client: Any) -> Any:
        return await client.adapter.get(f"/v1/identity/oidc/client/{_NAME}")

    client = (await vault.call(root, read))["data"]
    issuer = f"http://localhost:{urlsplit(address).port}"
    await write(f"identity/oidc/provider/{_NAME}", issuer=issuer, allowed_client_ids=[client["client_id"]])
    await _follow_the_guide(
        client["client_secret"],
        VAULT_ADDR=address,
        VAULT_TOKEN=root,
        ISSUER=f"{issuer}/v1/identity/oidc/provider/{_NAME}",
        CLIENT_ID=client["client_id"],
        POLICIES="stint-client,stint-operator",
        STINT_URL=stint_url,
    )
    return Provider(issuer, f"oidc-{entity}", login["auth"]["client_token"])


async def _follow_the_guide(client_secret: str, **environ: str) -> None:
    """Run its first block, with OpenBao's command line in the place of Vault's."""
    with TemporaryDirectory() as home:
        folder = Path(home)
        (folder / "client-secret").write_text(client_secret)
        (folder / "vault").symlink_to(BAO)
        await _run(blocks(GUIDE.read_text(encoding="utf-8"), "sh")[0], folder, environ)


async def _run(script: str, folder: Path, environ: Mapping[str, str]) -> None:
    path = f"{folder}{os.pathsep}{os.defpath}"
    shell = shutil.which("sh")
    assert shell
    ended = await finished(shell, "-euc", script, cwd=folder, env={**environ, "PATH": path, "HOME": str(folder)})
    assert ended.code == 0, ended
