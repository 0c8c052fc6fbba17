"""The keys, each in a file of its own: nkeys, what `stint nats-auth` signs and reads with, a password."""

import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import nkeys

from stint.core.errors import ConfigError
from stint.natsauth.callout.curve import CurveKey, new_seed
from stint.natsauth.callout.jwt import public_key_of
from stint.natsauth.roles import SEED_FILE
from stint.process.env_file import write_private

ISSUER_FILE: Final = "STINT_NATS_AUTH_ISSUER"
XKEY_FILE: Final = "STINT_NATS_AUTH_XKEY"
USERS_FILE: Final = "STINT_NATS_AUTH_USERS"
ROUTES_FILE: Final = "STINT_NATS_ROUTES"


def public_key(folder: Path) -> str:
    """The public key of the user whose seed is in this folder. A seed is made if there is none; likewise below.

    Raises:
        ConfigError: the folder cannot be used, or its file is not the seed of a user.
    """
    return _nkey(folder / SEED_FILE, "U", nkeys.PREFIX_BYTE_USER, "a NATS user")


def issuer_key(folder: Path) -> str:
    """The public key of the account key that signs logins."""
    return _nkey(folder / ISSUER_FILE, "A", nkeys.PREFIX_BYTE_ACCOUNT, "a NATS account")


def curve_key(folder: Path) -> str:
    """The public key that logins are encrypted for."""
    return _public(folder / XKEY_FILE, new_seed, lambda seed: CurveKey(seed).public, "an xkey")


def routes_password(folder: Path) -> str:
    """The password that all servers of a cluster share. Raises ConfigError as `public_key` does."""
    path = folder / ROUTES_FILE
    password = _kept(path, partial(secrets.token_hex, 32))
    if not (password.isascii() and password.isalnum()):  # it becomes part of URLs
        raise ConfigError(f"{path} does not contain a password of letters and digits.")
    return password


def _kept(path: Path, new: Callable[[], str]) -> str:
    """What the file contains; something new is written if there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        made = new()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read.") from None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent} cannot be made: {error.strerror}.") from None
    write_private(path, made)
    return made


def _nkey(path: Path, letter: str, prefix: int, kind: str) -> str:
    return _public(
        path, lambda: nkeys.encode_seed(os.urandom(32), prefix).decode(), partial(public_key_of, kind=letter), kind
    )


def _public(path: Path, new: Callable[[], str], public_of: Callable[[str], str], kind: str) -> str:
    seed = _kept(path, new)
    try:
        return public_of(seed)
    except ValueError:
        raise ConfigError(f"{path} does not contain the seed of {kind}.") from None
