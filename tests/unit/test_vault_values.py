import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from stint.core.errors import ConfigError, InvalidQueueNameError, VaultDeniedError, VaultRefusedError
from stint.core.names.ids import normalise_queue_name
from stint.process.env_file import read_env_file, read_variables, save, write_env_file
from stint.vault import Login, SecretData, Ticket, Vault, check_path, queue_path
from stint.vault.actions import RELEASE
from stint.vault.hvac_adapter import check_token
from stint.vault.policies import policies

SECRET = "s.a-wrapping-token"


@pytest.mark.parametrize(
    "path",
    [
        "cubbyhole/../sys/mounts",
        "cubbyhole/a?list=true",
        "a#b",
        "a%2e%2e",
        "a/./b",
        "a\nb",
        "a\x7fb",
        "",
        "/",
        "\ud800",
    ],
)
def test_a_path_that_means_another_one_is_refused(path: str) -> None:
    with pytest.raises(VaultRefusedError):
        check_path(path)


@pytest.mark.parametrize("path", ["cubbyhole/job", "kv/data/demo", "kv/data/with space", "kv/data/ünïcode", "a/.b"])
def test_an_ordinary_path_stands(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize("token", ["with space", "line\nbreak", "ünïcode", "\0", "\ud800"])
def test_a_token_that_cannot_be_sent_is_denied_without_being_named(token: str) -> None:
    with pytest.raises(VaultDeniedError) as caught:
        check_token(token)
    assert token not in caught.value.sentence


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:8200", "file:///etc", "http://", "http://u:p@host", "http://host:x", "http://h?a", "http://[::1"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        Vault(address)


@pytest.mark.parametrize("cacert", ["/nowhere/ca.pem", __file__])
def test_what_is_no_ca_bundle_is_refused(cacert: str) -> None:
    with pytest.raises(ConfigError, match="VAULT_CACERT"):
        Vault("https://127.0.0.1:8200", cacert=cacert)


@pytest.mark.parametrize(
    "value", [Ticket(wrap_secret_id=SECRET, payload_sha256="ab"), Login(token=SECRET, ttl=1), SecretData({"a": SECRET})]
)
def test_no_secret_in_a_repr(value: object) -> None:
    assert SECRET not in repr(value) + str(value) + pretty_repr(value) + pretty_repr([value])


def test_the_jobs_policy_only_reads_and_only_the_runner_may_open_jobs() -> None:
    found = policies("stint-job", ["kv/data/*"])
    assert "transit" not in found["stint-job"]
    assert 'path "kv/data/*" {\n  capabilities = ["read"]\n}' in found["stint-job"]
    opens = {name: re.findall(r"transit/decrypt/([\w-]+)", text) for name, text in found.items() if "decrypt" in text}
    assert opens == {"stint-api": ["stint-session"], "stint-runner": ["stint-bus", "stint-job"]}


ROLES = ["", "a/b", "../x", 'a"', "stint-api", "stint-bus", "stint-session", "default", "-x"]
PATHS = ['kv/"', "kv/\n", "", "kv/{{x}}"]
POLICIES = [("stint-job", [path]) for path in PATHS] + [(role, list[str]()) for role in ROLES]


@pytest.mark.parametrize(("role", "paths"), POLICIES)
def test_no_name_of_a_role_and_no_path_can_write_policy(role: str, paths: list[str]) -> None:
    with pytest.raises(ConfigError):
        policies(role, paths)
    for path in filter(None, paths):
        with pytest.raises(ConfigError):
            policies(role, [], path)


ORDINARY = ["deploys", "team/deploys", "with space", "a.b.c", "\u00fcml\u00e4ut", "a,b", "a?b#c%d", "c++"]
ODD = [
    ("", "=_"),
    ("a ", "=meqa"),
    ("a/", "=mexq"),
    ("*", "=fi"),
    ("=_", "=hvpq"),
    ("=meqa", "=hvwwk4lb"),
    ("a/../b", "=mexs4lrpmi"),
    ("a/.", "=mexs4"),
    ("a\u202e", "=mhriblq"),
]


@pytest.mark.parametrize(("name", "place"), [*zip(ORDINARY, ORDINARY, strict=True), *ODD])
def test_a_name_stands_in_its_path_unless_vault_would_read_it_as_another(name: str, place: str) -> None:
    assert (queue_path(name), RELEASE.path(name)) == (f"stint/queue/{place}", f"stint/release/{place}")


@given(st.text(alphabet=st.sampled_from("ab=+*/ ._-{}me\u00fc\u00a0"), max_size=6), st.text(max_size=6))
def test_no_two_names_share_a_path(one: str, other: str) -> None:
    paths = {}
    for name in (one, other, queue_path(one).removeprefix("stint/queue/")):
        try:
            paths[normalise_queue_name(name)] = queue_path(normalise_queue_name(name))
        except InvalidQueueNameError:
            continue
    assert len(set(paths.values())) == len(paths)


TEXTS = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=30)
VALUES = st.dictionaries(st.from_regex(r"STINT_[A-Z]{1,8}", fullmatch=True), TEXTS, max_size=4)


@settings(max_examples=25)
@given(values=VALUES)
def test_an_env_file_reads_back(values: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("env") / "stint.env"
    write_env_file(path, values)
    assert read_env_file(path) == values
    assert read_env_file(path.with_name("missing")) == {}
    path.write_bytes(path.read_bytes() + b"# a comment\nno assignment\n1=2\n'open\n")
    assert read_env_file(path) == values, "lines of other forms are passed over"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_env_file(path)


def test_variables_are_what_a_shell_reads(tmp_path: Path) -> None:
    text = "\ufeffA=a#b\n\n  # it's a comment\nB='x y' # it's another\nC=\\#\r\nD=http://h/#f\nE=a'b'\"c\"\nF=\n"
    (tmp_path / "env").write_text(text)
    expected = {"A": "a#b", "B": "x y", "C": "#", "D": "http://h/#f", "E": "abc", "F": ""}
    assert read_variables(tmp_path / "env") == expected
    assert read_env_file(tmp_path / "env") == expected


@pytest.mark.parametrize("line", ["A=sEcReT word", "A = sEcReT", "A", "export A=sEcReT", "A='sEcReT", "1=sEcReT", "=x"])
def test_a_variable_is_not_left_out_silently(line: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text(f"B=1\n{line}\nC=1\n")
    with pytest.raises(ConfigError, match="line 2 is not NAME=value") as caught:
        read_variables(tmp_path / "env")
    assert "sEcReT" not in caught.value.sentence
    with pytest.raises(ConfigError, match="cannot be read"):
        read_variables(tmp_path / "missing")


def test_a_shell_reads_an_env_file(tmp_path: Path) -> None:
    value = """$JS.API `x` "y" 'z' \\ # !"""
    path = tmp_path / "stint.env"
    write_env_file(path, {"STINT_A": value, "STINT_B": ""})
    script = '. "$1"; printf "%s|%s" "$STINT_A" "$STINT_B"'
    shell = subprocess.run(["/bin/sh", "-c", script, "sh", str(path)], capture_output=True, check=True, text=True)
    assert shell.stdout == f"{value}|"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_loss_of_power_brings_no_replaced_file_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "env", list[tuple[bool, str]]()
    save(path, "before")

    def fsync(file: int) -> None:
        synced.append((Path(f"/proc/self/fd/{file}").is_dir(), path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    save(path, "after")
    assert synced == [(False, "before"), (True, "after")]


@pytest.mark.parametrize(
    ("private", "present", "mode"),
    [(True, 0, 0o600), (True, 0o640, 0o640), (True, 0o644, 0o600), (False, 0, 0o644), (False, 0o664, 0o664)],
)
def test_a_saved_file_keeps_its_link_and_mode_but_a_private_one_is_not_for_others(
    tmp_path: Path, private: bool, present: int, mode: int
) -> None:
    path, link = tmp_path / "stint.env", tmp_path / "link"
    link.symlink_to(path)
    if present:
        path.touch()
        path.chmod(present)
    save(link, "text", private=private)
    assert (path.read_text(), path.stat().st_mode & 0o777, link.is_symlink()) == ("text", mode, True)
    assert {*tmp_path.iterdir()} == {path, link}, "nothing else is left"


def test_a_file_whose_owner_cannot_be_kept_is_its_writers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stint.env"
    path.touch(0o640)

    def refuse(*_arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    save(path, "text")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("text", 0o600)


@pytest.mark.parametrize(
    "values", [{"STINT_A": f"{SECRET}\n"}, {"STINT A": SECRET}, {"1": SECRET}, {"A": f"{SECRET}\0"}]
)
def test_what_has_no_spelling_is_refused_without_being_named(tmp_path: Path, values: dict[str, str]) -> None:
    path = tmp_path / "stint.env"
    with pytest.raises(ConfigError) as caught:
        write_env_file(path, values)
    assert SECRET not in caught.value.sentence
    assert not path.exists()


@pytest.mark.parametrize("target", ["missing/stint.env", ".", "x" * 300])
def test_a_place_that_takes_no_file_is_a_config_error(tmp_path: Path, target: str) -> None:
    with pytest.raises(ConfigError):
        write_env_file(tmp_path / target, {"STINT_A": "1"})


@pytest.mark.parametrize("name", [".", "x" * 300])
def test_what_is_no_readable_file_is_a_config_error(tmp_path: Path, name: str) -> None:
    for read in (read_env_file, read_variables):
        with pytest.raises(ConfigError, match="cannot be read"):
            read(tmp_path / name)


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="not a regular file"):
        write_env_file(pipe, {"STINT_A": "1"})
    assert pipe.is_fifo()
