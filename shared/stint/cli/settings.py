"""Where the command line finds its settings: options, a profile, the environment, and the token of `stint login`.

Profiles are in one TOML file; a token is never in it, only the name of a file with one.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stint.client import Endpoints, endpoints
from stint.core.errors import ConfigError

Url = Annotated[str, typer.Option("--url", help="Stint's API. [env var: STINT_URL]", show_default=False)]
Profile = Annotated[
    str, typer.Option("--profile", help="A profile of the settings file. [env var: STINT_PROFILE]", show_default=False)
]

NAMES: Final = {
    "url": "STINT_URL",
    "role": "STINT_ROLE",
    "cacert": "STINT_CACERT",
    "token_file": "STINT_TOKEN_FILE",
    "vault_addr": "VAULT_ADDR",
    "vault_cacert": "VAULT_CACERT",
    "nats_url": "STINT_NATS_URL",
}
"""What a profile can set, and the variables that set the same."""
TOKENS: Final = ("STINT_TOKEN", "STINT_TOKEN_FILE", "VAULT_TOKEN")
"""What gives a token; all count before the file of `stint login`."""
SERVERS: Final = ("STINT_URL", "VAULT_ADDR")
"""What gets the token."""


class Found(dict[str, str]):
    """Settings by the names of their variables. `origin` says where each is from."""

    def __init__(self) -> None:
        super().__init__()
        self.origin: dict[str, str] = {}

    def take(self, values: Mapping[str, str], origin: str) -> None:
        """Add those that are not set yet."""
        for name, value in values.items():
            if value and name not in self:
                self[name], self.origin[name] = value, origin


def settings(url: str = "", profile: str = "") -> Found:
    """All settings. An option counts first, then a profile that was asked for, the environment, the file's own profile.

    Raises ConfigError if the file or the token's file cannot be read or is wrong, or there is no such profile.
    """
    found, path = Found(), settings_file()
    found.take({"STINT_URL": url}, "--url")
    wanted = profile or os.environ.get("STINT_PROFILE", "")
    if wanted:
        found.take(_profile(path, wanted), f"profile {wanted}")
    # One of several ways to give a token: a second one from further behind must not replace the first.
    known = {*NAMES.values()} if _token_in(found) else {*NAMES.values(), *TOKENS}
    found.take({name: value for name, value in os.environ.items() if name in known}, "environment")
    found.take({"STINT_NATS_URL": os.environ.get("NATS_URL", "")}, "environment")
    if not wanted and is_there(path):
        found.take(_own_profile(path, found), str(path))
    _find_token(found)
    return found


def where(url: str = "", profile: str = "") -> Endpoints:
    """The addresses and the token. Raises ConfigError as `settings` does, and if there is no token."""
    found = settings(url, profile)
    if (name := found.get("STINT_TOKEN_FILE")) and not (found.get("STINT_TOKEN") or found.get("VAULT_TOKEN")):
        raise ConfigError(f"STINT_TOKEN_FILE: {name} is empty.")
    return endpoints(found)


def settings_file() -> Path:
    """The file with the profiles."""
    if given := os.environ.get("STINT_CONFIG"):
        return Path(given)
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else _home() / ".config") / "stint" / "config.toml"


def token_file() -> Path:
    """Where `vault login` and `stint login` put the token."""
    return _home() / ".vault-token"


def _home() -> Path:
    """The user's folder; one that is not there if the system knows no such user and HOME is not set."""
    home = os.environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - the other form raises then
    return Path("/nonexistent" if home == "~" else home)  # the current folder may have one of that name


def is_there(path: Path) -> bool:
    """Whether there is such a file. In a folder that this user may not enter there is none, while `exists` raises."""
    return os.path.exists(path)  # noqa: PTH110 - see above


def _token_in(found: Mapping[str, str]) -> bool:
    return any(name in found for name in TOKENS)


def _find_token(found: Found) -> None:
    """Read the token's file, or the one that `stint login` and `vault login` write."""
    if "STINT_TOKEN" not in found and (name := found.get("STINT_TOKEN_FILE")):
        found.take({"STINT_TOKEN": _read(Path(name)).strip()}, name)
    left = token_file()
    if not _token_in(found) and is_there(left):
        found.take({"VAULT_TOKEN": _read(left).strip()}, str(left))


def _profile(path: Path, name: str) -> Mapping[str, str]:
    """A profile, or the one that the file names; empty if it names none."""
    import tomllib  # noqa: PLC0415 - only for those who have the file

    try:
        written = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}.") from None
    profiles = written.pop("profiles", {})
    if not (isinstance(profiles, dict) and all(isinstance(profile, dict) for profile in profiles.values())):
        raise ConfigError(f"{path}: a profile is a table, [profiles.NAME].")
    named = written.pop("profile", "")
    if not isinstance(named, str):
        raise ConfigError(f"{path}: profile is the name of a profile, which itself is a table, [profiles.NAME].")
    if written:
        raise ConfigError(
            f"{path}: outside of [profiles.NAME] it can set profile, but not {', '.join(sorted(written))}."
        )
    name = name or named
    if name and name not in profiles:
        raise ConfigError(f"{path} has no profile {name}.")
    return {NAMES[key]: value for key, value in _checked(path, profiles[name] if name else {}).items()}


def _own_profile(path: Path, found: Found) -> Mapping[str, str]:
    """The profile that the file names. Its token is left out where there is one, or where a server is not its own."""
    own = _profile(path, "")
    elsewhere = any(found.get(name, own[name]) != own[name] for name in SERVERS if name in own)
    if elsewhere or _token_in(found):
        return {name: value for name, value in own.items() if name not in TOKENS}
    return own


def _checked(path: Path, values: Mapping[str, Any]) -> Mapping[str, str]:
    if unknown := sorted(values.keys() - NAMES.keys()):
        raise ConfigError(f"{path}: a profile cannot set {', '.join(unknown)}, only {', '.join(NAMES)}.")
    if wrong := sorted(name for name, value in values.items() if not isinstance(value, str)):
        raise ConfigError(f"{path}: {', '.join(wrong)} must be text.")
    return values


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError):  # the last is how pathlib says that there is no such user
        raise ConfigError(f"{path} cannot be read.") from None


def without_login(url: str) -> str:
    """An address without the user and the password that it may contain."""
    return re.sub(r"(?<=://)[^/@]*@", "…@", url)
