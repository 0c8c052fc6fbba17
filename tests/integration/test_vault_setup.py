"""`vault-setup` and what each of its roles can and cannot do, on a server of its own: the names are fixed ones."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nacl.signing import VerifyKey
from typer.testing import CliRunner

from stint.cli.app import app
from stint.cli.services.vault_setup import FILES
from stint.cli.services.vault_setup import vault_setup as set_up
from stint.core.errors import ConfigError, VaultDeniedError, VaultError, VaultNotFoundError, VaultUnavailableError
from stint.process.env_file import read_env_file
from stint.vault import BUS_KEY, RECEIPT_KEY, SESSION_KEY, AppRoleSession, SecretData, Signer, Vault
from stint.vault.policies import CLIENT, OPERATOR, PUBLISHER, SEALER
from stint.vault.setup import SetupReport, client_token, service_settings, vault_setup
from tests.support.accounts import write_policy
from tests.support.servers import BaoProcess, running
from tests.support.vault_bench import ROLE, as_root

PARTS = 18
NOBODY = 65534 if os.geteuid() == 0 else -1  # only root can give a file away


class Stack(NamedTuple):
    """A Vault that was set up once, with a secret at `kv/data/demo`."""

    vault: Vault
    root: str
    report: SetupReport
    settings: Mapping[str, str]

    async def login(self, prefix: str) -> str:
        role_id, secret_id = self.settings[f"{prefix}_ROLE_ID"], self.settings[f"{prefix}_SECRET_ID"]
        return (await self.vault.login(role_id, secret_id)).token

    async def job(self, wrapping: str) -> str:
        secret_id = await self.vault.unwrap_secret_id(wrapping)
        return (await self.vault.login(self.settings["STINT_ROLE_ID"], secret_id)).token

    async def client(self, *policies: str) -> str:
        return await client_token(self.vault.address, self.root, policies=policies or ("stint-client",))

    async def wrapping(self, token: str) -> str:
        answer = await self.vault.call(token, lambda c: c.auth.approle.generate_secret_id(ROLE, wrap_ttl="60s"))
        return str(answer["wrap_info"]["token"])


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running(server := BaoProcess(tmp_path_factory.mktemp("bao"))):
        address, root = server.address, server.root_token
        report = await vault_setup(address, root, kv_mount="kv")
        vault, secret = Vault(address), {"data": {"password": "hush"}}
        await vault.call(root, lambda client: client.write_data("kv/data/demo", data=secret))
        yield Stack(vault, root, report, await service_settings(address, root))


async def denied(*attempts: Awaitable[object]) -> None:
    for attempt in attempts:
        with pytest.raises(VaultDeniedError):
            await attempt


async def test_the_first_set_up_makes_all_the_second_finds_all_and_others_are_denied(stack: Stack) -> None:
    assert len(stack.report.made) == PARTS
    assert "policy stint-publisher" in stack.report.made
    again = await vault_setup(stack.vault.address, stack.root, kv_mount="kv")
    assert again == SetupReport(made=(), found=stack.report.made, different=())
    await denied(vault_setup(stack.vault.address, await stack.client()))
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
        await stack.login("STINT_API")


async def test_the_api_seals_asks_and_opens_nothing(stack: Stack) -> None:
    token, client = await stack.login("STINT_API"), await stack.client()
    sealed = [await stack.vault.encrypt(token, key, b"x") for key in (BUS_KEY, ROLE)]
    found = await stack.vault.capabilities(token, client, ["stint/queue/a", "stint/release/a"])
    assert found == {"stint/queue/a": {"create", "read", "update", "delete"}, "stint/release/a": {"deny"}}
    await denied(
        stack.vault.decrypt(token, BUS_KEY, sealed[0]),
        stack.vault.decrypt(token, ROLE, sealed[1]),
        stack.vault.read(token, "kv/data/demo"),
        stack.vault.encrypt(token, "another-key", b"x"),
        stack.wrapping(token),
        stack.vault.read(token, f"transit/keys/{ROLE}"),
        client_token(stack.vault.address, token),
    )


async def test_the_session_key_is_the_apis_alone(stack: Stack) -> None:
    api = await stack.login("STINT_API")
    sealed = await stack.vault.encrypt(api, SESSION_KEY, b"a token", associated_data=b"a session")
    assert await stack.vault.decrypt(api, SESSION_KEY, sealed, associated_data=b"a session") == b"a token"
    for token in (await stack.login("STINT_RUNNER"), await stack.client(), await stack.client("stint-publisher")):
        await denied(
            stack.vault.encrypt(token, SESSION_KEY, b"x"),
            stack.vault.decrypt(token, SESSION_KEY, sealed, associated_data=b"a session"),
        )


async def test_only_the_api_signs_receipts(stack: Stack) -> None:
    session = AppRoleSession(stack.vault, stack.settings["STINT_API_ROLE_ID"], stack.settings["STINT_API_SECRET_ID"])
    signer = Signer(stack.vault, session, RECEIPT_KEY)
    ((version, public),) = (await signer.public_keys()).items()
    signature = await signer.sign(b"text", version)
    assert VerifyKey(public).verify(b"text", signature) == b"text"
    tokens = [await stack.login("STINT_RUNNER")]
    tokens += [await stack.client(policy) for policy in (CLIENT, SEALER, OPERATOR, PUBLISHER)]
    tokens.append(await stack.job(await stack.wrapping(await stack.client())))
    for token in tokens:
        await denied(stack.vault.call(token, lambda c: c.secrets.transit.sign_data(RECEIPT_KEY, hash_input="dGV4dA==")))
    own = await session.token()
    await denied(
        stack.vault.call(own, lambda c: c.secrets.transit.sign_data(BUS_KEY, hash_input="dGV4dA==")),
        stack.vault.call(own, lambda c: c.secrets.transit.rotate_key(RECEIPT_KEY)),
        stack.vault.call(own, lambda c: c.secrets.transit.export_key(RECEIPT_KEY, "signing-key")),
    )


async def test_the_runner_opens_and_does_nothing_else(stack: Stack) -> None:
    token, client = await stack.login("STINT_RUNNER"), await stack.client("stint-publisher")
    for key in (BUS_KEY, ROLE):
        assert await stack.vault.decrypt(token, key, await stack.vault.encrypt(client, key, b"x")) == b"x"
    await denied(
        stack.vault.encrypt(token, BUS_KEY, b"x"),
        stack.vault.encrypt(token, ROLE, b"x"),
        stack.vault.read(token, "kv/data/demo"),
        stack.vault.capabilities(token, client, ["a"]),
        stack.wrapping(token),
    )


async def test_a_job_logs_in_once_reads_secrets_ends_itself_and_opens_nothing(stack: Stack) -> None:
    client = await stack.client()
    sealed = await stack.vault.encrypt(client, ROLE, b"x")
    token = await stack.job(await stack.wrapping(client))
    found = await stack.vault.read(token, "kv/data/demo")
    assert found is not None
    assert found.data is not None
    assert found.data["data"] == {"password": "hush"}
    caller = await stack.vault.lookup_self(token)
    assert (caller.num_uses, caller.policies) == (8, (ROLE,))
    assert 19 * 60 < caller.ttl <= 20 * 60
    write = stack.vault.call(token, lambda c: c.write_data("kv/data/demo", data={"data": {}}))
    await denied(stack.vault.decrypt(token, ROLE, sealed), stack.vault.encrypt(token, ROLE, b"x"), write)
    await stack.vault.revoke_self(token)
    await denied(stack.vault.lookup_self(token))
    secret_id = await stack.vault.unwrap_secret_id(await stack.wrapping(await stack.client()))
    await stack.vault.login(stack.settings["STINT_ROLE_ID"], secret_id)
    with pytest.raises(VaultError, match="code 400"):
        await stack.vault.login(stack.settings["STINT_ROLE_ID"], secret_id)


async def test_a_client_submits_but_reads_no_secret_and_gets_no_bare_secret_id(stack: Stack) -> None:
    token = await stack.client()
    sealed = await stack.vault.encrypt(token, ROLE, b"x")
    two_uses = await stack.vault.call(token, lambda c: c.auth.token.create(policies=["default"], num_uses=2))
    cubby = two_uses["auth"]["client_token"]
    await stack.vault.call(cubby, lambda client: client.write_data("cubbyhole/job", data={"payload": sealed}))
    assert await stack.vault.read(cubby, "cubbyhole/job") == SecretData({"payload": sealed})
    await stack.wrapping(token)
    await denied(
        stack.vault.call(token, lambda client: client.auth.approle.generate_secret_id(ROLE)),
        stack.vault.call(token, lambda client: client.auth.approle.generate_secret_id("stint-runner", wrap_ttl="60s")),
        stack.vault.decrypt(token, ROLE, sealed),
        stack.vault.encrypt(token, BUS_KEY, b"x"),
        stack.vault.read(token, "kv/data/demo"),
    )


async def test_a_publisher_seals_tickets_and_makes_no_tokens(stack: Stack) -> None:
    token = await stack.client("stint-publisher")
    sealed = [await stack.vault.encrypt(token, key, b"x") for key in (BUS_KEY, ROLE)]
    await stack.wrapping(token)
    await denied(
        stack.vault.decrypt(token, BUS_KEY, sealed[0]),
        stack.vault.decrypt(token, ROLE, sealed[1]),
        stack.vault.read(token, "kv/data/demo"),
        client_token(stack.vault.address, token),
        stack.vault.call(token, lambda client: client.auth.approle.generate_secret_id(ROLE)),
    )


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


async def test_what_differs_is_changed_where_that_is_asked_for(bao_process: BaoProcess) -> None:
    address, root = bao_process.address, bao_process.root_token
    await vault_setup(address, root)
    theirs: list[Callable[[Any], Any]] = [
        lambda c: c.sys.create_or_update_policy("stint-client", 'path "kv/theirs" {}\n'),
        lambda c: c.sys.create_or_update_policy(ROLE, 'path "kv/theirs" {}\n'),
        lambda c: c.auth.approle.create_or_update_approle("stint-api", token_ttl=60, token_bound_cidrs=["127.0.0.1"]),
    ]
    for request in theirs:
        await as_root(bao_process, request)
    report = await vault_setup(address, root, update=True, keep=(f"policy {ROLE}",))
    assert (report.updated, report.different) == (("policy stint-client", "role stint-api"), (f"policy {ROLE}",))
    assert '-path "kv/theirs" {}\n+path "auth/token/create" {' in report.diffs["policy stint-client"]
    assert "-token_ttl = 60\n+token_ttl = 3600" in report.diffs["role stint-api"]
    role = (await as_root(bao_process, lambda c: c.auth.approle.read_role("stint-api")))["data"]
    assert role["token_bound_cidrs"] == ["127.0.0.1"], "what Stint has no say in is left alone"
    again = await vault_setup(address, root, update=True)
    assert (again.updated, again.different) == ((f"policy {ROLE}",), ())


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


async def test_what_differs_is_shown_and_ends_the_command_with_1(bao_process: BaoProcess) -> None:
    assert (await command(bao_process))[0] == 0
    for policy in ("stint-client", ROLE):
        await write_policy(bao_process, policy, {"kv/theirs": {}})
    code, out, _ = await command(bao_process)
    assert code == 1
    assert "--- policy stint-client, in Vault" in out
    assert "differs, not changed: policy stint-client\n" in out
    code, out, _ = await command(bao_process, "--update")
    assert code == 1, "the jobs' policy could become wider than it had been made"
    assert "updated policy stint-client\n" in out
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
    old = first["STINT_API_SECRET_ID"]
    await as_root(bao_process, lambda client: client.auth.approle.destroy_secret_id("stint-api", old))
    assert (await command(bao_process, "--env-file", path))[0] == 0
    third = read_env_file(path)
    assert {name for name in first if third[name] != first[name]} == {"STINT_API_SECRET_ID"}
    await Vault(bao_process.address).login(third["STINT_API_ROLE_ID"], third["STINT_API_SECRET_ID"])


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


async def test_a_set_up_that_was_broken_off_writes_its_secret_when_it_is_repeated(
    bao_process: BaoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = (bao_process.address, bao_process.root_token)
    attempts = await losing_each_answer(monkeypatch, lambda number: vault_setup(*access, kv_mount=f"kv{number}"))
    for number in range(1, attempts + 1):
        await vault_setup(*access, kv_mount=f"kv{number}")
        secret = await Vault(bao_process.address).read(bao_process.root_token, f"kv{number}/data/demo")
        assert secret is not None, number
        assert secret.data is not None
        assert secret.data["metadata"]["version"] == 1


async def test_a_secret_that_was_deleted_stays_so_and_a_mount_of_others_gets_none(bao_process: BaoProcess) -> None:
    access, vault = (bao_process.address, bao_process.root_token), Vault(bao_process.address)
    await as_root(bao_process, lambda c: c.sys.enable_secrets_engine("kv", path="theirs", options={"version": "2"}))
    await vault_setup(*access, kv_mount="kv")
    assert await vault.read(bao_process.root_token, "kv/data/demo")
    await as_root(bao_process, lambda client: client.adapter.delete("/v1/kv/metadata/demo"))
    for mount in ("kv", "theirs"):
        await vault_setup(*access, kv_mount=mount)
        assert await vault.read(bao_process.root_token, f"{mount}/data/demo") is None


async def test_who_may_not_change_a_mount_sets_all_up(bao_process: BaoProcess) -> None:
    rules = """path "*" { capabilities = ["create", "read", "update", "list", "sudo"] }
               path "sys/mounts/kv/tune" { capabilities = ["deny"] }"""
    await as_root(bao_process, lambda client: client.sys.create_or_update_policy("most", rules))
    made = await as_root(bao_process, lambda client: client.auth.token.create(policies=["most"]))
    token = made["auth"]["client_token"]
    for _ in range(2):
        await vault_setup(bao_process.address, token, kv_mount="kv")
        assert await Vault(bao_process.address).read(token, "kv/data/demo")


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


async def test_a_restarted_server_is_reached_through_the_same_vault(bao_process: BaoProcess) -> None:
    async with Vault(bao_process.address) as vault:
        await vault.lookup_self(bao_process.root_token)
        await bao_process.restart()
        await vault.lookup_self(bao_process.root_token)


def contents(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in folder.rglob("STINT_*")}


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


async def test_the_containers_logins_are_kept_while_they_are_good(bao_process: BaoProcess, tmp_path: Path) -> None:
    for service in FILES:
        (tmp_path / service).mkdir()
    token = tmp_path / "token"
    token.write_text(f"{bao_process.root_token}\n")
    access = {"VAULT_TOKEN": "", "VAULT_TOKEN_FILE": str(token)}
    assert (await command(bao_process, "--files", tmp_path, **access))[0] == 0
    written = contents(tmp_path)
    assert (await command(bao_process, "--files", tmp_path, **access))[0] == 0
    assert contents(tmp_path) == written
    assert len(written) == sum(len(names) for names in FILES.values())


async def test_files_are_not_written_again_and_keep_owner_mode_and_link(
    bao_process: BaoProcess, tmp_path: Path
) -> None:
    for service in FILES:
        (tmp_path / service).mkdir()
    env_file = tmp_path / "stint.env"
    options = ("--env-file", env_file, "--files", tmp_path)
    assert (await command(bao_process, *options))[0] == 0
    env_file.symlink_to(env_file.rename(tmp_path / "elsewhere"))
    files = [env_file, *contents(tmp_path)]
    for path in files:
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o440)
    kept = {path: (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in files}
    inodes = [path.stat().st_ino for path in files]
    assert (await command(bao_process, *options))[0] == 0
    assert [path.stat().st_ino for path in files] == inodes
    old = read_env_file(env_file)["STINT_API_SECRET_ID"]
    await as_root(bao_process, lambda client: client.auth.approle.destroy_secret_id("stint-api", old))
    assert (await command(bao_process, *options))[0] == 0
    new = read_env_file(env_file)["STINT_API_SECRET_ID"]
    assert new == (tmp_path / "api" / "STINT_API_SECRET_ID").read_text() != old
    assert env_file.is_symlink()
    assert {path: (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) for path in files} == kept
    for path in files:
        path.chmod(0o644)
    assert (await command(bao_process, *options))[0] == 0
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
