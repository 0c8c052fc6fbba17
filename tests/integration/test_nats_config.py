"""`stint nats-config`, and nats-server with what it writes."""

import asyncio
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stint.cli.app import app
from stint.natsauth.callout.jwt import public_key_of
from stint.natsauth.callout.keyed import key_users
from stint.natsauth.command import nats_config
from stint.natsauth.users import KeyUser
from tests.support.certificates import authority, certificate
from tests.support.ports import free_ports
from tests.support.servers import NatsProcess, running
from tests.support.stack import finished
from tests.support.waiting import until_true

SERVER = Path(sysconfig.get_path("scripts")) / "nats-server"
LIMITED = ("sh", "-c", 'ulimit -f 4; exec "$@"', "sh", sys.executable, "-B", "-m", "stint")  # to files of 2 or 4 KB
KEYS = ("api", "runner", "projector", "operator")


def configure(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["nats-config", str(folder), *options])


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_it_is_safe_to_repeat_and_nats_takes_it(tmp_path: Path) -> None:
    runners = ("--runner", "runner-1", "--runner", "r2", "--pool", "subnet=net,NET")
    users = ("--publisher", "team=deploys,net core,Deploys", "--subscriber", "team", *runners)
    assert configure(tmp_path, *users).exit_code == 0
    first = texts(tmp_path)
    assert '"$KV.runners.runner-1"' in first["accounts.conf"]
    for name in (*KEYS, "publishers/team", "subscribers/team", "runners/runner-1", "runners/r2"):
        path = tmp_path / name / "STINT_NATS_NKEY"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() not in first["accounts.conf"] + first["nats.conf"]
    again = configure(tmp_path, *users)
    assert again.exit_code == 0
    assert texts(tmp_path) == first
    subprocess.run([SERVER, "-t", "--config", tmp_path / "nats.conf"], check=True, capture_output=True)


def test_a_difference_is_shown_and_changed_only_on_demand_and_no_text_differs(tmp_path: Path) -> None:
    configure(tmp_path)
    before = texts(tmp_path)
    shown = configure(tmp_path, "--publisher", "team=deploys")
    assert shown.exit_code == 1
    assert "+" in shown.output
    assert f"differs, not changed: {tmp_path / 'accounts.conf'}" in shown.output
    assert texts(tmp_path)["accounts.conf"] == before["accounts.conf"]
    assert configure(tmp_path, "--publisher", "team=deploys", "--update").exit_code == 0
    assert "_INBOX.team.>" in texts(tmp_path)["accounts.conf"]
    (tmp_path / "accounts.conf").write_bytes(b"\xff")
    assert "differs, not changed" in configure(tmp_path).output
    assert configure(tmp_path, "--update").exit_code == 0


async def test_a_first_configuration_that_did_not_fit_is_written_when_it_is_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "nats"
    first = await finished(*LIMITED, "nats-config", folder, env={})
    assert (first.code, f"{folder / 'accounts.conf'} cannot be written" in first.err) == (2, True)
    assert not [name for name in texts(folder) if "/" not in name]
    assert configure(folder).exit_code == 0
    assert [(folder / name).stat().st_mode & 0o777 for name in ("accounts.conf", "nats.conf")] == [0o644, 0o644]


async def test_many_at_once_make_one_set_of_keys_and_the_configuration_fits_it(tmp_path: Path) -> None:
    await asyncio.gather(*(asyncio.to_thread(nats_config, folder=tmp_path) for _ in range(6)))
    assert configure(tmp_path).exit_code == 0


async def test_a_file_that_cannot_be_written_stays_and_one_that_is_changed_keeps_its_mode(tmp_path: Path) -> None:
    configure(tmp_path / "nats")
    accounts, before = tmp_path / "nats/accounts.conf", texts(tmp_path)
    accounts.chmod(0o640)
    update = ("nats-config", tmp_path / "nats", "--publisher", "team=deploys", "--update")
    full = await finished(*LIMITED, *update, env={})
    assert (full.code, f"{accounts} cannot be written" in full.err) == (2, True)
    assert {name: text for name, text in texts(tmp_path).items() if "publishers" not in name} == before
    accounts.symlink_to(accounts.rename(tmp_path / "elsewhere"))
    assert (await finished(sys.executable, "-m", "stint", *update, env={})).code == 0
    assert (accounts.is_symlink(), accounts.stat().st_mode & 0o777) == (True, 0o640)
    assert "_INBOX.team.>" in accounts.read_text()


def test_servers_of_a_cluster_with_tls_share_the_accounts(tmp_path: Path) -> None:
    cluster = ("--cluster", "127.0.0.1:6222", "--route", "nats://127.0.0.1:6223", "--name", "one")
    tls = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    made = configure(tmp_path, *cluster, *tls)
    assert (made.exit_code, "STINT_REPLICAS=3" in made.output) == (0, True)
    found = texts(tmp_path)["nats.conf"]
    assert all(part in found for part in ("key.pem", 'server_name: "one"', "include cluster.conf"))
    password = texts(tmp_path)["cluster/STINT_NATS_ROUTES"].strip()
    shared = texts(tmp_path)["cluster.conf"]
    assert all(part in shared for part in (f"nats://stint:{password}@127.0.0.1:6223", "key.pem", '"verify": true'))
    (tmp_path / "cluster.conf").chmod(0o644)
    assert configure(tmp_path, *cluster, *tls).exit_code == 0
    assert (tmp_path / "cluster.conf").stat().st_mode & 0o777 == 0o600
    changed = configure(tmp_path, *cluster, *tls, "--route", "nats://127.0.0.1:6224")
    assert (changed.exit_code, password in changed.output) == (1, False)


@pytest.mark.parametrize(
    "route", ["127.0.0.1:6222", "nats://", "nats://a:b@host:6222", "nats://[::1:6222", "nats://host:port"]
)
def test_a_route_has_an_address_and_no_password(tmp_path: Path, route: str) -> None:
    result = configure(tmp_path, "--cluster", "127.0.0.1:6222", "--route", route)
    assert (result.exit_code, "--route: nats://HOST:PORT" in result.output) == (2, True)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_joins_the_cluster_only_with_its_password(tmp_path: Path, *, tls: bool) -> None:
    here, there, stranger = islice(free_ports(), 3)
    options: tuple[str, ...] = ()
    if tls:
        folder = authority(tmp_path / "ca")
        certificate(folder, "", "subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth, clientAuth\n")
        options = ("--tls-cert", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem", "--tls-ca", f"{folder}/ca.pem")

    def server(port: int, other: int) -> NatsProcess:
        """A server that knows another one. All that stint nats-config wrote but addresses is its own."""
        cluster = ("--cluster", f"127.0.0.1:{port}", "--route", f"nats://127.0.0.1:{other}")
        assert configure(tmp_path / "nats", *cluster, *options, "--update").exit_code == 0
        text = (tmp_path / "nats" / "cluster.conf").read_text()
        return NatsProcess(tmp_path / str(port), settings=f"server_name: at-{port}\n{text}")

    own, other, wrong = server(here, there), server(there, here), server(stranger, here)
    password = (tmp_path / "nats" / "cluster" / "STINT_NATS_ROUTES").read_text().strip()
    wrong.settings = wrong.settings.replace(password, "0" * len(password))
    async with running(own), running(other), running(wrong):
        await until_true(lambda: "Authorization Violation" in wrong.log)
        joined = f"Remote: at-{stranger}"
        await until_true(lambda: "JetStream cluster new metadata leader" in own.log + other.log)
        assert joined not in own.log + other.log


@pytest.mark.parametrize("option", ["--publisher", "--pool"])
def test_a_name_that_is_given_twice_is_a_sentence(tmp_path: Path, option: str) -> None:
    result = configure(tmp_path, option, "team=deploys", option, "team=reports")
    assert result.exit_code == 2
    assert f"{option} team: it is there twice." in result.output
    assert not texts(tmp_path), "nothing was written"


@pytest.mark.parametrize("auth", [False, True])
def test_a_pool_has_a_key_and_is_told_what_confines_it(tmp_path: Path, *, auth: bool) -> None:
    pools = ("--pool", "subnet=net-a, NET-b", "--pool", "wide=web-*")
    result = configure(tmp_path, *pools, "--auth" if auth else "--no-auth")
    assert result.exit_code == 0
    said = result.output.replace("\n", "")
    assert f"STINT_NATS_NKEY_FILE={tmp_path / 'pools' / 'subnet' / 'STINT_NATS_NKEY'}" in said
    assert "STINT_QUEUES='net-a,net-b'" in said
    assert ("that of wide may take all queues' jobs" in said) is not auth
    assert ("The runners of wide log in through `stint nats-auth`" in said) is auth
    assert "of subnet" not in said.partition("STINT_QUEUES='net-a,net-b'")[2]
    found = texts(tmp_path)
    accounts = found["accounts.conf"]
    assert "STINT_POOL_SUBNET" in accounts
    assert "STINT_POOL_WIDE" in accounts
    if auth:
        (user,) = key_users(found["nats-auth/STINT_NATS_AUTH_USERS"]).values()
        assert user == KeyUser("wide", ["web-*"], pool=True)
        wide, subnet = (public_key_of(found[f"pools/{name}/STINT_NATS_NKEY"], "U") for name in ("wide", "subnet"))
        known = accounts.partition("auth_users")[2]
        assert (wide in known, subnet in known) == (False, True)
    subprocess.run([SERVER, "-t", "--config", tmp_path / "nats.conf"], check=True, capture_output=True)


@pytest.mark.parametrize("text", ["", "no seed", "SAAMXXYWVOL4Q6X4WXKFYJ3NHEWXK3N6S2P3HXDY4YYWJ6SQ7RMC5W5TZU"])
def test_a_file_that_is_no_users_seed_is_a_sentence_without_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "STINT_NATS_NKEY").write_text(text)
    result = configure(tmp_path)
    assert result.exit_code == 2
    assert "api/STINT_NATS_NKEY does not contain the seed of a NATS user." in result.output.replace("\n", "")
    assert not text or text not in result.output


def test_a_password_that_a_url_cannot_hold_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "STINT_NATS_ROUTES").write_text("p@ss:word")
    result = configure(tmp_path, "--cluster", "127.0.0.1:6222")
    assert (result.exit_code, "p@ss" in result.output) == (2, False)
    assert "does not contain a password of letters and digits" in result.output.replace("\n", "")


WRONG = {
    "--publisher": ["team", "team=", "=deploys", "api=deploys", "operator=x", "a.b=x", "a b=x", "team=\n"],
    "--pool": ["subnet", "subnet=", "=a", "api=a", "operator=a", "crew=a", "A=b", "a b=x", "a=,", "a=\x01b"],
    "--runner": ["", "a.b", "*", ">", "a/b", "../x"],
    "--subscriber": ["", "a.b", "*", "a b"],
}


@pytest.mark.parametrize(("option", "given"), [(option, given) for option, wrong in WRONG.items() for given in wrong])
def test_a_user_without_a_good_name_or_queue_is_a_sentence(tmp_path: Path, option: str, given: str) -> None:
    """Such as a name that is somebody else's; and a subscriber's name must fit into subjects."""
    result = configure(tmp_path, "--publisher", "crew=a", option, given)
    assert result.exit_code == 2
    told = "A subscriber's name" if option == "--subscriber" else option
    assert f"stint nats-config: {told}" in result.output
    assert not texts(tmp_path), "nothing was written"


@pytest.mark.parametrize(("options", "asked"), [((), True), (("--no-auth",), False), (("--accounts-only",), False)])
def test_the_service_decides_logins_unless_told_otherwise(tmp_path: Path, options: Sequence[str], asked: bool) -> None:
    assert configure(tmp_path, "--publisher", "team=x", *options).exit_code == 0
    found = texts(tmp_path)
    assert ("auth_callout" in found["accounts.conf"]) == asked
    assert ("nats-auth/STINT_NATS_AUTH_ISSUER" in found) == asked
    secret = [text for name, text in found.items() if not name.endswith(".conf")]
    assert not any(seed in found["accounts.conf"] for seed in secret)


def test_a_nats_that_runs_gets_accounts_alone_whatever_its_system_account_is_called(tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.conf"
    result = configure(tmp_path, "--accounts-only", "--auth", "--system-account", "SYS")
    assert (result.exit_code, f"Add the accounts of {accounts}" in result.output) == (0, True)
    assert "nats.conf" not in texts(tmp_path)
    assert '$SYS": {' not in accounts.read_text()
    own = tmp_path / "own.conf"
    own.write_text(f"system_account: SYS\njetstream {{ store_dir: '{tmp_path}/data' }}\ninclude accounts.conf\n")
    subprocess.run([SERVER, "-t", "--config", own], check=True, capture_output=True)


@pytest.mark.parametrize(
    "options",
    [
        ("--tls-cert", "cert.pem"),
        ("--route", "nats://127.0.0.1:6222"),
    ],
)
def test_a_wrong_option_leaves_nothing_behind(tmp_path: Path, options: Sequence[str]) -> None:
    assert configure(tmp_path / "nats", *options).exit_code == 2
    assert not (tmp_path / "nats").exists()
