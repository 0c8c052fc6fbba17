"""Contract, sections 0 and 3: secrets, from Vault into the container."""

import asyncio
import json
from typing import Any

import httpx
import pytest
import yaml

from tests.api.client import Api
from tests.api.vault import KV1
from tests.support.waiting import until

VALUES: dict[str, Any] = {
    "text": "plain",
    "empty": "",
    "lines": "two\nlines\n",
    "quotes": "'\"\\ : # - {}",
    "number_like": "0123",
    "yes_like": "yes",
    "int": 42,
    "float": 1.5,
    "big": 1234567890123456,
    "true": True,
    "null": None,
    "list": [1, "two", None],
    "object": {"a": {"b": [True]}},
    "unicode": "\u00fc\u4e2d\U0001f680",
}


@pytest.fixture(scope="module", autouse=True)
async def _secrets(api: Api) -> None:
    await api.vault.put_secret("suite/types", VALUES)
    await api.vault.put_secret_v1("types", {"key": "one", "data": "not nested"})
    await api.vault.put_secret("suite", {"first-key": "1", "second_key": "2"})


async def test_values_of_every_type(api: Api) -> None:
    refs = [f"V_{name}@kv/data/suite/types.{name}" for name in VALUES]
    wanted = {f"V_{name}": value for name, value in VALUES.items()}
    job = await api.run("cat /secrets.yml; test ! -e /secrets.json", secret_refs=refs)
    lines = job["output"].splitlines()
    assert lines[:2] == ["---", "# gostint vault secrets injected:"]
    assert (job["status"], yaml.safe_load(job["output"])) == ("success", wanted)
    assert [line.partition(":")[0] for line in lines if line.startswith("V_")] == sorted(wanted)
    job = await api.run("cat /secrets.json; test ! -e /secrets.yml", secret_refs=refs, secret_file_type="json")
    found = json.loads(job["output"])
    assert (job["status"], found, list(found)) == ("success", wanted, sorted(found))


async def test_the_file_is_the_jobs_own_and_empty_without_references(api: Api) -> None:
    for kind, path in (("yaml", "/secrets.yml"), ("json", "/secrets.json")):
        job = await api.run(f"stat -c '%u:%g %a %F' {path} >&2; cat {path}", secret_file_type=kind)
        assert job["stderr"] == "2001:2001 400 regular file\n"
        assert yaml.safe_load(job["stdout"]) in ((None, {}) if kind == "yaml" else ({},))


async def test_kv_version_1_two_keys_of_a_path_and_the_last_of_a_name(api: Api) -> None:
    v1 = [f"A@{KV1}/types.key", f"B@{KV1}/types.data"]
    v2 = ["C@kv/data/suite.first-key", "D@kv/data/suite.second_key", "C@kv/data/suite.second_key"]
    job = await api.run("cat /secrets.yml", secret_refs=v1 + v2)
    assert yaml.safe_load(job["output"]) == {"A": "one", "B": "not nested", "C": "2", "D": "2"}


async def test_a_path_is_read_once(api: Api) -> None:
    """A job's token has ten uses in the usual set-up: thirty keys of one path must not need more."""
    await api.vault.put_secret("suite/many", {f"k{n}": str(n) for n in range(30)})
    job = await api.run("grep -c K /secrets.yml", secret_refs=[f"K{n}@kv/data/suite/many.k{n}" for n in range(30)])
    assert (job["status"], job["output"]) == ("success", "30\n")


async def test_a_job_with_more_paths_than_its_token_has_uses_is_told_so(api: Api) -> None:
    """Vault only says that it denies permission, for any of the paths."""
    for number in range(11):
        await api.vault.put_secret(f"suite/path{number}", {"k": str(number)})
    refs = [f"K{number}@kv/data/suite/path{number}.k" for number in range(11)]
    job = await api.run("grep -c K /secrets.yml", secret_refs=refs[:10])
    assert (job["status"], job["output"]) == ("success", "10\n")
    job = await api.run(secret_refs=refs)
    assert (job["status"], job["reason"]) == ("failed", "secrets")
    assert "The job's secrets are at 11 paths, and each path costs a use of its token: token_num_uses" in job["error"]


FAILING = {
    "nonsense": "Secretref is unparseable: nonsense",
    "": "Secretref is unparseable: ",
    "A@kv/data/suite": "Secretref is unparseable: A@kv/data/suite",
    "A@kv/data/su.ite.key": "Secretref is unparseable: A@kv/data/su.ite.key",
    "x A@kv/data/suite.first-key": "Secretref is unparseable: x A@kv/data/suite.first-key",
    "A@kv/data/suite.first-key\n": "Secretref is unparseable: A@kv/data/suite.first-key\n",
    "\u00c4@kv/data/suite.first-key": "Secretref is unparseable: \u00c4@kv/data/suite.first-key",
    "A@other/data/x.y": "Failed to retrieve secret other/data/x from vault err: ",
    "A@kv/data/nothing-here.y": "Failed to retrieve secret kv/data/nothing-here from vault: response is nil",
    "A@kv/data/suite.none": "Failed retrieving from vault path kv/data/suite.none",
}


async def test_a_reference_that_fails_also_to_a_deleted_version(api: Api) -> None:
    good = "OK@kv/data/suite.first-key"
    jobs = await asyncio.gather(*(api.run("echo it ran", secret_refs=[good, ref]) for ref in FAILING))
    for ref, job in zip(FAILING, jobs, strict=True):
        assert (job["status"], job["reason"], job["return_code"]) == ("failed", "secrets", 0)
        assert job["error"].startswith(FAILING[ref])
        assert job["output"] == job["error"]
    await api.vault.put_secret("suite/deleted", {"a": "1"})
    await api.vault.call(api.vault.admin, "DELETE", "kv/data/suite/deleted")
    job = await api.run(secret_refs=["A@kv/data/suite/deleted.a"])
    assert (job["status"], job["reason"]) == ("failed", "secrets")


async def test_vaults_own_paths_are_closed(api: Api) -> None:
    paths = "auth/token/lookup-self", "sys/health", "cubbyhole/x", "identity/entity", "/auth/token", "//sys/x", "SYS/x"
    closed = ({"secret_refs": [f"A@{path}.id"], "cont_on_warnings": True} for path in paths)
    for job in await asyncio.gather(*(api.run("cat /secrets.yml", **fields) for fields in closed)):
        assert (job["status"], job["reason"]) == ("failed", "secrets")


async def test_warnings_stop_a_job_unless_it_goes_on(api: Api) -> None:
    """A KV v2 that is read without its `data/` warns in its answer."""
    warned = ["A@kv/suite.first-key"]
    await api.vault.allow(api.vault.role, "kv/suite")
    job = await api.run(secret_refs=warned)
    if "response is nil" in job["error"]:
        pytest.skip("this Vault's answer has no warning")
    assert job["error"].startswith("FailOnWarnings from vault path kv/suite lookups: [")
    going_on = await api.run(secret_refs=warned, cont_on_warnings=True)
    assert not going_on["error"].startswith("FailOnWarnings")


async def test_a_wrong_file_type(api: Api) -> None:
    for kind in ("toml", "YAML", " json"):
        job = await api.run(secret_file_type=kind)
        assert (job["status"], job["error"]) == ("failed", f"Invalid SecretFileType: '{kind}'")


async def test_the_jobs_token_is_exposed_only_if_asked_for(api: Api) -> None:
    script = "echo ${VAULT_TOKEN:-none}; grep -c TOKEN /secrets.yml; echo $VAULT_ADDR; echo [${VAULT_CACERT-unset}]"
    hidden = (await api.run(script))["stdout"].splitlines()
    assert hidden == ["none", "0", api.env["VAULT_ADDR"], "[]"]
    job = await api.run(f"{script}; cat /secrets.yml", expose_vault_token=True)
    token, count, *_ = job["stdout"].splitlines()
    assert count == "1"
    assert yaml.safe_load(job["stdout"].partition("---")[2])["TOKEN"] == token
    # It ends with the job, a moment after its end was told.
    await until(lambda: _looked_up(api, token), lambda answer: answer.status_code == 403)


async def _looked_up(api: Api, token: str) -> httpx.Response:
    admin = {"X-Vault-Token": api.vault.admin}
    return await api.vault.http.post("/v1/auth/token/lookup", json={"token": token}, headers=admin)


async def test_masking(api: Api) -> None:
    await api.vault.put_secret("suite/mask", {"long": "s3cr3t-value", "short": "abc", "number": 987654})
    wanted = [f"{name.upper()}@kv/data/suite/mask.{name}" for name in ("long", "short", "number")]
    script = "printf 's3cr3t-'; sleep 0.1; echo value; echo abc 987654; echo s3cr3t-value >&2"
    job = await api.run(script, secret_refs=wanted, mask_secrets=True)
    assert (job["stdout"], job["stderr"]) == ("***\nabc ***\n", "***\n")
    assert job["output_masked"] == 3
    raw = await api.run(script, secret_refs=wanted)
    assert "s3cr3t-value" in raw["stdout"]
