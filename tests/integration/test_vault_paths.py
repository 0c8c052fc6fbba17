"""Policies on queues' paths, as a real Vault reads them."""

import asyncio
import json
import secrets

import pytest

from stint.vault import queue_path
from stint.vault.actions import RELEASE
from tests.support.servers import OpenBao
from tests.support.vault_bench import Bench, make_bench

NAMES = [
    *("a", "a/", "a//", "/a", " a", "a ", "a,b", "a/b", "a//b", "a/../b", "./a", ".", "..", "", " ", "/", "a\u00a0"),
    *("a\u3000", "a\u200b", "\u2028", "+", "+x", "a/+", "a/+/b", "a+b", "c++", "*", "a*", "a*b", "{{x}}"),
    *("{{identity.entity.id}}", "${x}", "$sys", 'q"u', "b\\s", "\u00fc", "e\u0301", "\u00e9", "a%2fb", "a?b", "a#b"),
    *("=", "=me", "a=b", "capabilities", "release/a", "a" * 1000, "\u4e2d\u6587", "\U0001f680"),
]


@pytest.fixture
async def bench(openbao: OpenBao) -> Bench:
    return await make_bench(openbao)


async def token_for(bench: Bench, path: str) -> str:
    """A token that may read this path and no other."""
    policy, name = f'path {json.dumps(path, ensure_ascii=False)} {{ capabilities = ["read"] }}', secrets.token_hex(4)
    await bench.admin(lambda client: client.sys.create_or_update_policy(name, policy))
    answer = await bench.admin(lambda client: client.auth.token.create(policies=[name], no_default_policy=True))
    return str(answer["auth"]["client_token"])


async def readable(bench: Bench, token: str) -> list[str]:
    paths = {name: queue_path(name) for name in NAMES}
    found = await bench.vault.capabilities(bench.root, token, [*paths.values()])
    return [name for name, path in paths.items() if "read" in found[path]]


async def test_a_policy_on_a_queue_means_that_queue_and_no_other(bench: Bench) -> None:
    tokens = await asyncio.gather(*(token_for(bench, queue_path(name)) for name in NAMES))
    found = await asyncio.gather(*(readable(bench, token) for token in tokens))
    assert dict(zip(NAMES, found, strict=True)) == {name: [name] for name in NAMES}


async def test_one_policy_can_mean_all_queues(bench: Bench) -> None:
    assert await readable(bench, await token_for(bench, "stint/queue/*")) == NAMES
    assert await readable(bench, await token_for(bench, "stint/release/*")) == []
    assert await readable(bench, bench.root) == []  # root is a capability of its own
    found = await bench.vault.capabilities(bench.root, bench.root, [RELEASE.path("a ")])
    assert found == {RELEASE.path("a "): {"root"}}


async def test_a_policy_on_the_beginning_of_names_means_no_encoded_one(bench: Bench) -> None:
    found = await readable(bench, await token_for(bench, "stint/queue/a*"))
    assert found == [name for name in NAMES if name.startswith("a") and queue_path(name) == f"stint/queue/{name}"]
