"""`vault-setup` and what each of its roles can and cannot do, on a server of its own: the names are fixed ones."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from stint.cli.app import app
from stint.cli.services.vault_setup import FILES
from stint.cli.services.vault_setup import vault_setup as set_up
from stint.core.errors import ConfigError, VaultDeniedError, VaultError, VaultNotFoundError, VaultUnavailableError
from stint.process.env_file import read_env_file
from stint.vault import BUS_KEY, RECEIPT_KEY, SESSION_KEY, Vault
from stint.vault.policies import CLIENT, KEYS, OPERATOR, PUBLISHER, SEALER
from stint.vault.setup import SetupReport, client_token, service_settings, vault_setup
from tests.support.accounts import write_policy
from tests.support.servers import BaoProcess, running
from tests.support.vault_bench import ROLE, as_root, wrapped_secret_id

PARTS = 18
NOBODY = 65534 if os.geteuid() == 0 else -1  # only root can give a file away


class Stack(NamedTuple):
    """A Vault that was set up once, with a secret at `kv/data/demo`."""

    vault: Vault
    root: str
    report: SetupReport
    settings: Mapping[str, str]
    sealed: Mapping[str, str]  # something, by the key that seals it

    async def token(self, who: str) -> str:
        """A new token of a service or a job by its login, or else with this policy."""
        if who == "job":
            secret_id = await self.vault.unwrap_secret_id(await self.wrapping(await self.token(CLIENT)))
            return (await self.vault.login(self.settings["STINT_ROLE_ID"], secret_id)).token
        if who in {"api", "runner"}:
            role_id, secret_id = (self.settings[f"STINT_{who.upper()}_{name}_ID"] for name in ("ROLE", "SECRET"))
            return (await self.vault.login(role_id, secret_id)).token
        return await client_token(self.vault.address, self.root, policies=[who])

    async def wrapping(self, token: str, role: str = ROLE) -> str:
        return await wrapped_secret_id(self.vault, token, role)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running(server := BaoProcess(tmp_path_factory.mktemp("bao"))):
        address, root = server.address, server.root_token
        report = await vault_setup(address, root, kv_mount="kv")
        vault, secret = Vault(address), {"data": {"password": "hush"}}
        await vault.call(root, lambda client: client.write_data("kv/data/demo", data=secret))
        sealed = {key: await vault.encrypt(root, key, b"x") for key in (BUS_KEY, ROLE, SESSION_KEY, "another-key")}
        await vault.call(root, lambda client: client.write_data(f"{KEYS}/x", data={"key": "x"}))
        yield Stack(vault, root, report, await service_settings(address, root), sealed)


async def test_the_first_set_up_makes_all_the_second_finds_all_and_others_are_denied(stack: Stack) -> None:
    assert len(stack.report.made) == PARTS
    assert "policy stint-publisher" in stack.report.made
    again = await vault_setup(stack.vault.address, stack.root, kv_mount="kv")
    assert again == SetupReport(made=(), found=stack.report.made, different=())
    with pytest.raises(VaultDeniedError):
        await vault_setup(stack.vault.address, await stack.token(CLIENT))
    with pytest.raises(ConfigError):
        await vault_setup(stack.vault.address, stack.root, role="stint-api")


async def test_settings_name_every_login_and_new_secret_ids_leave_old_ones_good(stack: Stack) -> None:
    again = await service_settings(stack.vault.address, stack.root)
    assert set(again) == {
        "STINT_ROLE",
        "STINT_ROLE_ID",
        "STINT_API_ROLE_ID",
        "STINT_API_SECRET_ID",
        "STINT_RUNNER_ROLE_ID",
        "STINT_RUNNER_SECRET_ID",
    }
    assert {name for name in again if again[name] != stack.settings[name]} == {
        "STINT_API_SECRET_ID",
        "STINT_RUNNER_SECRET_ID",
    }
    for _ in range(2):
        await stack.token("api")


Act = Callable[[Stack, str], Awaitable[object]]


def asked(request: Callable[[Any], Any]) -> Act:
    return lambda stack, token: stack.vault.call(token, request)


TEXT = "dGV4dA=="
ACTS: dict[str, Act] = {
    "seal a ticket": lambda stack, token: stack.vault.encrypt(token, BUS_KEY, b"x"),
    "open a ticket": lambda stack, token: stack.vault.decrypt(token, BUS_KEY, stack.sealed[BUS_KEY]),
    "seal a payload": lambda stack, token: stack.vault.encrypt(token, ROLE, b"x"),
    "open a payload": lambda stack, token: stack.vault.decrypt(token, ROLE, stack.sealed[ROLE]),
    "seal a session": lambda stack, token: stack.vault.encrypt(token, SESSION_KEY, b"x"),
    "open a session": lambda stack, token: stack.vault.decrypt(token, SESSION_KEY, stack.sealed[SESSION_KEY]),
    "seal with another key": lambda stack, token: stack.vault.encrypt(token, "another-key", b"x"),
    "look at a key": lambda stack, token: stack.vault.read(token, f"transit/keys/{ROLE}"),
    "sign a receipt": asked(lambda client: client.secrets.transit.sign_data(RECEIPT_KEY, hash_input=TEXT)),
    "sign with another key": asked(lambda client: client.secrets.transit.sign_data(BUS_KEY, hash_input=TEXT)),
    "rotate the key of receipts": asked(lambda client: client.secrets.transit.rotate_key(RECEIPT_KEY)),
    "export the key of receipts": asked(lambda client: client.secrets.transit.export_key(RECEIPT_KEY, "signing-key")),
    "read a secret": lambda stack, token: stack.vault.read(token, "kv/data/demo"),
    "write a secret": asked(lambda client: client.write_data("kv/data/demo", data={"data": {}})),
    "read a payload's key": lambda stack, token: stack.vault.read(token, f"{KEYS}/x"),
    "make a payload's key": asked(lambda client: client.write_data(f"{KEYS}/x", data={"key": "x"})),
    "change a policy": asked(
        lambda client: client.write_data("sys/policies/acl/another", data={"policy": "# nothing"})
    ),
    "look at an AppRole": lambda stack, token: stack.vault.read(token, f"auth/approle/role/{ROLE}"),
    "list who has logged in": asked(lambda client: client.auth.token.list_accessors()),
    "get a wrapped secret id": lambda stack, token: stack.wrapping(token),
    "get a bare secret id": asked(lambda client: client.auth.approle.generate_secret_id(ROLE)),
    "get a secret id of runners": lambda stack, token: stack.wrapping(token, "stint-runner"),
    "make a token": lambda stack, token: client_token(stack.vault.address, token, policies=()),
    "ask what another may do": lambda stack, token: stack.vault.capabilities(token, stack.root, ["a"]),
}
MAY = {
    "api": {
        *("seal a ticket", "seal a payload", "seal a session", "open a session"),
        *("sign a receipt", "ask what another may do", "make a payload's key"),
    },
    "runner": {"open a ticket", "open a payload", "read a payload's key"},
    "job": {"read a secret"},
    CLIENT: {"seal a payload", "get a wrapped secret id", "make a token"},
    SEALER: {"seal a payload", "get a wrapped secret id", "make a token"},
    PUBLISHER: {"seal a ticket", "seal a payload", "get a wrapped secret id"},
    OPERATOR: set[str](),
}
"""What each may do with its login, or a token that has this policy. It may do nothing else of the above."""


@pytest.mark.parametrize("who", MAY)
async def test_each_may_do_what_it_needs_and_nothing_else(stack: Stack, who: str) -> None:
    for act, attempt in ACTS.items():
        token = await stack.token(who)  # a new one: a job's has few uses
        try:
            await attempt(stack, token)
        except VaultDeniedError:
            assert act not in MAY[who], act
        else:
            assert act in MAY[who], act


async def test_a_job_logs_in_once_reads_secrets_and_ends_itself(stack: Stack) -> None:
    token = await stack.token("job")
    found = await stack.vault.read(token, "kv/data/demo")
    assert found is not None
    assert found.data is not None
    assert found.data["data"] == {"password": "hush"}
    caller = await stack.vault.lookup_self(token)
    assert (caller.num_uses, caller.policies) == (8, (ROLE,))
    assert 19 * 60 < caller.ttl <= 20 * 60
    for _ in range(2):
        await stack.vault.revoke_self(token)
    with pytest.raises(VaultDeniedError):
        await stack.vault.lookup_self(token)
    secret_id = await stack.vault.unwrap_secret_id(await stack.wrapping(await stack.token(CLIENT)))
    await stack.vault.login(stack.settings["STINT_ROLE_ID"], secret_id)
    with pytest.raises(VaultError, match="code 400"):
        await stack.vault.login(stack.settings["STINT_ROLE_ID"], secret_id)


async def test_what_is_there_with_other_content_is_left_alone(bao_process: BaoProcess) -> None:
    rules = 'path "kv/data/theirs" { capabilities = ["read"] }'
    theirs: list[Callable[[Any], Any]] = [
        lambda c: c.sys.enable_auth_method("approle"),
        lambda c: c.sys.enable_secrets_engine("transit"),
        lambda c: c.sys.enable_secrets_engine("kv", path="kv", options={"version": "1"}),
        lambda c: c.secrets.transit.create_key(ROLE, key_type="chacha20-poly1305"),
        lambda c: c.sys.create_or_update_policy(ROLE, rules),
        lambda c: c.auth.approle.create_or_update_approle(ROLE, token_policies=["theirs"], token_num_uses=5),
    ]
    for request in theirs:
        await as_root(bao_process, request)
    report = await vault_setup(bao_process.address, bao_process.root_token, kv_mount="kv")
    assert report.different == ("mount kv", f"key {ROLE}", f"policy {ROLE}", f"role {ROLE}")
    assert report.found == ("auth approle", "mount transit")
    assert (await as_root(bao_process, lambda c: c.sys.read_policy(ROLE)))["data"]["rules"] == rules
    assert (await as_root(bao_process, lambda c: c.auth.approle.read_role(ROLE)))["data"]["token_num_uses"] == 5


async def command(server: BaoProcess, *options: str | Path, **environ: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `stint vault-setup`."""
    settings = {"VAULT_ADDR": server.address, "VAULT_TOKEN": server.root_token, **environ}
    arguments = ["vault-setup", *map(str, options)]
    ended = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=settings, prog_name="stint")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stdout, ended.stderr


async def accessors(server: BaoProcess, role: str) -> int:
    answer = await as_root(server, lambda client: client.auth.approle.list_secret_id_accessors(role))
    return len(answer["data"]["keys"])


async def test_what_differs_is_shown_and_changed_where_that_is_asked_for(bao_process: BaoProcess) -> None:
    assert (await command(bao_process))[0] == 0
    for policy in ("stint-client", ROLE):
        await write_policy(bao_process, policy, {"kv/theirs": {}})
    theirs = {"token_ttl": 60, "token_bound_cidrs": ["127.0.0.1"]}
    await as_root(bao_process, lambda c: c.auth.approle.create_or_update_approle("stint-api", **theirs))
    code, out, _ = await command(bao_process)
    assert code == 1
    assert "--- policy stint-client, in Vault" in out
    assert '\n+path "auth/token/create" {\n' in out
    assert "\n-token_ttl = 60\n+token_ttl = 3600\n" in out
    assert "differs, not changed: policy stint-client\n" in out
    code, out, _ = await command(bao_process, "--update")
    assert code == 1, "the jobs' policy could become wider than it had been made"
    assert "updated policy stint-client\nupdated role stint-api\n" in out
    role = (await as_root(bao_process, lambda c: c.auth.approle.read_role("stint-api")))["data"]
    assert role["token_bound_cidrs"] == ["127.0.0.1"], "what Stint has no say in is left alone"
    assert f"differs, not changed: policy {ROLE}\n" in out
    code, out, _ = await command(bao_process, "--update", "--secrets", "kv/data/app")
    assert (code, f"updated policy {ROLE}\n" in out) == (0, True)
    assert (await command(bao_process, "--secrets", "kv/data/app"))[0] == 0


async def test_a_file_of_settings_keeps_its_logins_while_they_are_good(bao_process: BaoProcess, tmp_path: Path) -> None:
    path = tmp_path / "stint.env"
    assert (await command(bao_process, "--env-file", path))[0] == 0
    first = read_env_file(path)
    with path.open("a") as file:
        file.write("# mine\nSTINT_NATS_URL='nats://a b'\n")
    assert (await command(bao_process, "--env-file", path))[0] == 0
    assert read_env_file(path) == {**first, "STINT_NATS_URL": "nats://a b"}
    assert await accessors(bao_process, "stint-api") == 1


async def test_what_cannot_be_written_leaves_no_login_behind(bao_process: BaoProcess, tmp_path: Path) -> None:
    code, _, err = await command(bao_process, "--env-file", tmp_path / "none" / "stint.env")
    assert (code, "cannot be written" in err) == (2, True)
    with pytest.raises(VaultNotFoundError):
        await accessors(bao_process, "stint-api")


async def losing_each_answer(patch: pytest.MonkeyPatch, attempt: Callable[[int], Awaitable[object]]) -> int:
    """Make an attempt without the first answer of Vault, one without the second, and so on. Returns their number."""
    call, calls, lost = Vault.call, 0, 0

    async def losing(self: Vault, *arguments: Any) -> Any:
        nonlocal calls
        answer = await call(self, *arguments)
        calls += 1
        if calls == lost:
            raise VaultUnavailableError
        return answer

    with patch.context() as patched:
        patched.setattr(Vault, "call", losing)
        while calls >= lost:  # until none was lost
            calls, lost = 0, lost + 1
            with suppress(VaultUnavailableError):
                await attempt(lost)
    return lost


async def test_an_answer_that_is_lost_leaves_no_login_that_nobody_has(
    bao_process: BaoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    access, kept = (bao_process.address, bao_process.root_token), dict[str, str]()
    await vault_setup(*access, kv_mount="kv")
    attempts = await losing_each_answer(
        monkeypatch, lambda _: service_settings(*access, known=dict(kept), keep=kept.update)
    )
    assert attempts > 5, "the answers about three role ids and two secret ids"
    for name, prefix in (("stint-api", "STINT_API"), ("stint-runner", "STINT_RUNNER")):
        await Vault(bao_process.address).login(kept[f"{prefix}_ROLE_ID"], kept[f"{prefix}_SECRET_ID"])
        assert await accessors(bao_process, name) == 1


async def test_a_secret_that_was_deleted_stays_so_and_a_mount_of_others_gets_none(bao_process: BaoProcess) -> None:
    access, vault = (bao_process.address, bao_process.root_token), Vault(bao_process.address)
    await as_root(bao_process, lambda c: c.sys.enable_secrets_engine("kv", path="theirs", options={"version": "2"}))
    await vault_setup(*access, kv_mount="kv")
    assert await vault.read(bao_process.root_token, "kv/data/demo")
    await as_root(bao_process, lambda client: client.adapter.delete("/v1/kv/metadata/demo"))
    for mount in ("kv", "theirs"):
        await vault_setup(*access, kv_mount=mount)
        assert await vault.read(bao_process.root_token, f"{mount}/data/demo") is None


async def test_two_at_once_make_one_login_for_each_service(
    bao_process: BaoProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_ADDR", bao_process.address)
    monkeypatch.setenv("VAULT_TOKEN", bao_process.root_token)
    links = [tmp_path / name / "stint.env" for name in ("one", "other")]
    for link in links:
        link.parent.mkdir()
        link.symlink_to(tmp_path / "stint.env")
    await asyncio.gather(*(asyncio.to_thread(set_up, env_file=link) for link in links))
    assert [await accessors(bao_process, role) for role in ("stint-api", "stint-runner")] == [1, 1]


async def test_of_two_at_once_for_a_new_vault_one_may_stop_and_a_repeated_one_finds_all(
    bao_process: BaoProcess,
) -> None:
    """As on two machines, which share no lock."""
    address, root = bao_process.address, bao_process.root_token

    async def whole() -> Mapping[str, str]:
        await vault_setup(address, root, kv_mount="kv")
        return await service_settings(address, root)

    both = await asyncio.gather(whole(), whole(), return_exceptions=True)
    logins = [outcome for outcome in both if not isinstance(outcome, BaseException)]
    stopped = [outcome for outcome in both if isinstance(outcome, BaseException)]
    assert logins
    assert all(isinstance(error, VaultError) for error in stopped)
    again = await vault_setup(address, root, kv_mount="kv")
    assert (again.made, again.different) == ((), ())
    assert await Vault(address).read(root, "kv/data/demo")
    for settings in (*logins, await service_settings(address, root, known=logins[0])):
        for service in ("API", "RUNNER"):
            await Vault(address).login(settings[f"STINT_{service}_ROLE_ID"], settings[f"STINT_{service}_SECRET_ID"])


ENDS: list[tuple[tuple[str, ...], dict[str, str], int]] = [
    (("--role", "stint-api"), {}, 2),
    (("--role", "a/b"), {}, 2),
    (("--secrets", "kv/../x"), {}, 2),
    ((), {"VAULT_ADDR": "nonsense"}, 2),
    ((), {"VAULT_TOKEN": ""}, 2),
    ((), {"VAULT_TOKEN": "no-such-token"}, 125),
    ((), {"VAULT_ADDR": "http://127.0.0.1:9"}, 125),
]


async def test_what_ends_the_command(bao_process: BaoProcess) -> None:
    for options, environ, code in ENDS:
        found, out, err = await command(bao_process, *options, **environ)
        assert (found, out) == (code, ""), (options, environ)
        assert err.startswith("stint vault-setup: ")
        assert err.count("\n") == 1
        assert "no-such-token" not in err


async def test_logins_that_cannot_be_read_are_named(bao_process: BaoProcess, tmp_path: Path) -> None:
    login = tmp_path / "api" / "STINT_API_ROLE_ID"
    said = f"stint vault-setup: {login} cannot be read.\n"
    login.mkdir(parents=True)
    code, _, error = await command(bao_process, "--files", tmp_path)
    assert (code, error) == (2, said)
    login.rmdir()
    login.write_bytes(b"\xff")
    code, _, error = await command(bao_process, "--files", tmp_path)
    assert (code, error) == (2, said)


async def test_files_are_not_written_again_and_keep_owner_mode_and_link(
    bao_process: BaoProcess, tmp_path: Path
) -> None:
    for service in FILES:
        (tmp_path / service).mkdir()
    token, env_file = tmp_path / "token", tmp_path / "stint.env"
    token.write_text(f"{bao_process.root_token}\n")
    options, access = ("--env-file", env_file, "--files", tmp_path), {"VAULT_TOKEN": "", "VAULT_TOKEN_FILE": str(token)}
    assert (await command(bao_process, *options, **access))[0] == 0
    env_file.symlink_to(env_file.rename(tmp_path / "elsewhere"))
    files = [env_file, *(tmp_path / service / name for service, names in FILES.items() for name in names)]
    for path in files:
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o440)
    kept = {path: (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in files}
    inodes = [path.stat().st_ino for path in files]
    assert (await command(bao_process, *options))[0] == 0
    assert [path.stat().st_ino for path in files] == inodes
    old = read_env_file(env_file)
    lost = old["STINT_API_SECRET_ID"]
    await as_root(bao_process, lambda client: client.auth.approle.destroy_secret_id("stint-api", lost))
    code, said, _ = await command(bao_process, *options)
    assert (code, "created login api\nfound login runner\n" in said) == (0, True)
    new = read_env_file(env_file)
    assert {name for name in new if new[name] != old[name]} == {"STINT_API_SECRET_ID"}
    assert new["STINT_API_SECRET_ID"] == (tmp_path / "api" / "STINT_API_SECRET_ID").read_text()
    await Vault(bao_process.address).login(new["STINT_API_ROLE_ID"], new["STINT_API_SECRET_ID"])
    assert env_file.is_symlink()
    assert {path: (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in files} == kept
    for path in files:
        path.chmod(0o644)
    assert (await command(bao_process, *options))[0] == 0
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
