"""Logins of registries, where a runner looks for them."""

import base64
import json
from pathlib import Path

from tests.api.vault import Vault
from tests.support.registry import Auth, Registry


def login(registry: Registry) -> Auth:
    name, password = next(iter(registry.users.items()))
    return {"username": name, "password": password}


def docker_config(folder: Path, registry: Registry) -> Path:
    """A folder with the file that `docker login` writes."""
    auth = login(registry)
    basic = base64.b64encode(f"{auth['username']}:{auth['password']}".encode()).decode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": basic}}}))
    return folder


async def vault_logins(vault: Vault, registry: Registry) -> None:
    """The secret that STINT_REGISTRY_SECRETS names, and the runners' leave to read it."""
    await vault.put_secret("registries", {registry.host: login(registry)})
    await vault.allow("stint-runner", "kv/data/registries")
