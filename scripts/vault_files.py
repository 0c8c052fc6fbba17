"""Prepares the Vault of compose.yaml, and gives each service its logins: as files, one a setting, that only it sees.

Runs in the image `setup`. VAULT_ADDR says where Vault is, VAULT_TOKEN_FILE which file holds a token that may do all
this, STINT_FILES which folder has a folder for each service.
"""

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stint.core.errors import StintError
from stint.vault.adapter import Edge
from stint.vault.setup import service_settings, vault_setup

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("STINT_API_ROLE_ID", "STINT_API_SECRET_ID"),
    "runner": ("STINT_RUNNER_ROLE_ID", "STINT_RUNNER_SECRET_ID", "STINT_ROLE_ID"),
}
"""Which service gets which settings. The projector has no business with Vault."""
DEMO_SECRET: Final = "/v1/kv/data/demo"
"""A secret to try things with: its key is `password`."""


async def prepare(address: str, token: str, folder: Path) -> None:
    """Safe to repeat: logins that are still good stay, and policies and AppRoles become those of this release.

    Raises:
        StintError: Vault cannot be reached, or refuses.
    """
    report = await vault_setup(address, token, kv_mount="kv", update=True)
    if "mount kv" in report.made:
        value = {"data": {"password": secrets.token_urlsafe(12)}}
        await Edge(address).call(token, lambda client: client.adapter.post(DEMO_SECRET, json=value))
    settings = await service_settings(address, token, known=known(folder))
    for service, names in FILES.items():
        for name in names:
            write(folder / service / name, settings[name])
    counts = f"{len(report.made)} parts made, {len(report.found)} found, {len(report.updated)} updated"
    print(f"Vault is set up: {counts}; logins for {', '.join(FILES)}.")
    for name in report.different:
        print(f"Left alone in Vault, though it differs: {name}.")


def known(folder: Path) -> dict[str, str]:
    """The logins that were written before."""
    paths = [folder / service / name for service, names in FILES.items() for name in names]
    return {path.name: path.read_text(encoding="utf-8").strip() for path in paths if path.exists()}


def write(path: Path, text: str) -> None:
    """With mode 0400, whole or not at all."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o400)
        file.write(text)
    Path(draft).replace(path)


def main() -> int:
    """The exit code."""
    token = Path(os.environ["VAULT_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
    try:
        asyncio.run(prepare(os.environ["VAULT_ADDR"], token, Path(os.environ["STINT_FILES"])))
    except StintError as error:
        print(f"vault-setup: {error.sentence}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
