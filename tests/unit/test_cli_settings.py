"""Where commands find their settings: in the environment, in profiles, and in the file of `stint login`."""

import json
import pwd
from pathlib import Path
from typing import Never

import pytest
from typer.testing import CliRunner, Result

from stint.cli.app import app


def run(arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(app, arguments.split(), env=environ)


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ({}, "token"),
        ({"STINT_URL": "http://own", "VAULT_ADDR": "http://vault"}, "token"),
        ({"VAULT_TOKEN": "given"}, "environment"),
        ({"STINT_URL": "http://other", "VAULT_TOKEN": "given"}, "environment"),
        ({"STINT_URL": "http://other"}, ""),
        ({"VAULT_ADDR": "http://other"}, ""),
    ],
)
def test_the_token_of_the_files_own_profile_is_for_its_servers_only(
    tmp_path: Path, given: dict[str, str], origin: str
) -> None:
    file, token_file = tmp_path / "config.toml", tmp_path / "token"
    token_file.write_text("own")
    servers = 'url = "http://own"\nvault_addr = "http://vault"\n'
    file.write_text(f'profile = "a"\n[profiles.a]\n{servers}token_file = "{token_file}"\n')
    shown = json.loads(run("config -o json", HOME=str(tmp_path), STINT_CONFIG=str(file), **given).output)
    token = shown.get("STINT_TOKEN") or shown.get("VAULT_TOKEN") or {"from": ""}
    assert token["from"].removeprefix(f"{tmp_path}/") == origin
    assert ("STINT_TOKEN_FILE" in shown) == (origin == "token")
    assert shown["STINT_URL"]["value"] == given.get("STINT_URL", "http://own")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profiles.a]\ntoken = 'sEcReT'\n", "cannot set token"),
        ("[profiles.a]\nurl = 7\n", "url must be text"),
        ("[profiles.b]\n", "has no profile a"),
        ("nonsense", "config.toml: "),
        ("[profiles.a]\ntoken_file = '/nowhere'\n", "/nowhere cannot be read"),
        ("[profiles.a]\ntoken_file = '~nobody-of-this-name/x'\n", "~nobody-of-this-name/x cannot be read"),
        ("profiles = 1\n", "a profile is a table"),
        ("[profiles]\na = 1\n", "a profile is a table"),
        ("url = 'http://a'\n[profiles.a]\n", "can set profile, but not url"),
        ("[profile.a]\nurl = 'http://a'\n", "a table, [profiles.NAME]"),
        ("[profiles.a]\ntoken_file = '/dev/null'\n", "STINT_TOKEN_FILE: /dev/null is empty"),
    ],
)
def test_a_wrong_profile_is_a_usage_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    result = run("ls --profile a", STINT_CONFIG=str(tmp_path / "config.toml"))
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert "sEcReT" not in result.output


def test_an_empty_token_file_does_not_stand_in_the_way_of_those_who_mend_it() -> None:
    assert run("config", STINT_TOKEN_FILE="/dev/null").exit_code == 0
    assert "STINT_TOKEN_FILE: /dev/null is empty" in run("ls", STINT_TOKEN_FILE="/dev/null").output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("config", 0, "/stint/config.toml (none)"),
        ("ls", 2, "Set STINT_TOKEN or VAULT_TOKEN"),
        ("run --image busybox --env-file {}", 2, "--env-file: there is no "),
        ("run --image busybox --job-json {}", 2, "--job-json: there is no "),
    ],
)
def test_files_that_this_user_may_not_even_look_for_are_not_there(arguments: str, code: int, said: str) -> None:
    """As in another user's home, which root may enter: here by a name that is too long."""
    unfit = f"/{'x' * 5000}"
    result = run(arguments.format(unfit), HOME=unfit)
    assert (result.exit_code, said in result.output) == (code, True), result.output[-500:]


@pytest.mark.parametrize(
    ("arguments", "code", "said"), [("config", 0, "config.toml (none)"), ("ls", 2, "Set STINT_TOKEN")]
)
def test_a_user_whom_the_system_does_not_know_has_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, code: int, said: str
) -> None:
    """As in a container that runs with a number alone; also where somebody has put a folder called `~`."""

    def unknown(uid: int) -> Never:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~" / ".config" / "stint").mkdir(parents=True)
    (tmp_path / "~" / ".config" / "stint" / "config.toml").write_text("")
    (tmp_path / "~" / ".vault-token").write_text("theirs")
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    result = run(arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output[-500:]
