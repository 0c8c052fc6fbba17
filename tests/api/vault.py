"""The client's side of a submission: Vault's HTTP API, as any client would use it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

KV1 = "api-suite-kv1"
"""Where this suite mounts a KV v1."""


@dataclass(frozen=True)
class Vault:
    """A stack's Vault. `role` is the jobs' AppRole, and the key that seals payloads; the others are tokens."""

    http: httpx.AsyncClient
    role: str
    client: str = field(repr=False)
    admin: str = field(repr=False)

    async def call(
        self, token: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer's JSON, {} where it has none."""
        answer = await self.http.request(
            method, f"/v1/{path}", json=body, headers={"X-Vault-Token": token, **(headers or {})}
        )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    async def wrapped(self, *, ttl: str = "10m", role: str = "") -> str:
        """A wrapping token around a secret id of the jobs' AppRole, or of another."""
        path = f"auth/approle/role/{role or self.role}/secret-id"
        token = self.admin if role else self.client
        answer = await self.call(token, "POST", path, headers={"X-Vault-Wrap-TTL": ttl})
        return str(answer["wrap_info"]["token"])

    async def unwrap(self, wrapping_token: str) -> dict[str, Any]:
        return await self.call(wrapping_token, "POST", "sys/wrapping/unwrap")

    async def encrypt(self, plain: bytes, *, key: str = "", binding: str = "") -> str:
        """A transit ciphertext under the payloads' key, or under another with associated data."""
        body = {"plaintext": base64.b64encode(plain).decode()}
        if binding:
            body["associated_data"] = base64.b64encode(binding.encode()).decode()
        answer = await self.call(
            self.admin if key else self.client, "POST", f"transit/encrypt/{key or self.role}", body
        )
        return str(answer["data"]["ciphertext"])

    async def sealed(self, job: Any) -> str:
        return await self.encrypt(json.dumps(job).encode())

    async def token(self, **options: Any) -> str:
        """A token with the policy `default` only, as a client makes them."""
        made = await self.call(
            self.client, "POST", "auth/token/create", {"policies": ["default"], "ttl": "10m", **options}
        )
        return str(made["auth"]["client_token"])

    async def another_client(self) -> str:
        """A token that may do what the client may."""
        return await self.token(policies=["default", "stint-client"])

    async def uses_left(self, token: str) -> int:
        found = await self.call(self.admin, "POST", "auth/token/lookup", {"token": token})
        return int(found["data"]["num_uses"])

    async def revoke(self, token: str) -> None:
        await self.call(self.admin, "POST", "auth/token/revoke", {"token": token})

    async def courier(self, data: Any) -> str:
        """A token that has `data` in its cubbyhole, at `cubbyhole/job`, and one use left."""
        token = await self.token(num_uses=2)
        await self.call(token, "POST", "cubbyhole/job", data)
        return token

    async def put_secret(self, name: str, data: Mapping[str, Any]) -> None:
        await self.call(self.admin, "POST", f"kv/data/{name}", {"data": data})

    async def put_secret_v1(self, name: str, data: Mapping[str, Any]) -> None:
        """At the path `<KV1>/<name>` (KV v1), readable for jobs."""
        await self.call(self.admin, "POST", f"{KV1}/{name}", data)

    async def mount_v1(self) -> None:
        """A KV v1, and the jobs' leave to read it."""
        mounts = await self.call(self.admin, "GET", "sys/mounts")
        if f"{KV1}/" not in mounts:
            await self.call(self.admin, "POST", f"sys/mounts/{KV1}", {"type": "kv", "options": {"version": "1"}})
        await self.allow(self.role, f"{KV1}/*")

    async def allow(self, policy: str, path: str) -> None:
        """Let a policy read a path besides what it may already."""
        found = await self.call(self.admin, "GET", f"sys/policies/acl/{policy}")
        rule = f'path "{path}" {{\n  capabilities = ["read"]\n}}\n'
        rules = found["data"]["policy"]
        if rule not in rules:
            await self.call(self.admin, "POST", f"sys/policies/acl/{policy}", {"policy": f"{rules}\n{rule}"})
