"""Logins of registries, where a runner looks for them."""

import base64
import json
from pathlib import Path

from tests.api.vault import Vault
from tests.support.registry import Registry


def docker_config(folder: Path, registry: Registry) -> Path:
    """A folder with the file that `docker login` writes."""
    basic = base64.b64encode(":".join(registry.login.values()).encode()).decode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": basic}}}))
    return folder


async def vault_logins(vault: Vault, registry: Registry) -> None:
    """The secret that STINT_REGISTRY_SECRETS names, and the runners' leave to read it."""
    await vault.put_secret("registries", {registry.host: registry.login})
    await vault.allow("stint-runner", "kv/data/registries")
