"""The keys, each as a seed in a file of its own: the users' nkeys, and what `stint nats-auth` signs and reads with."""

import os
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


def public_key(folder: Path) -> str:
    """The public key of the user whose seed is in this folder. A seed is made if there is none; likewise below.

    Raises:
        ConfigError: the folder cannot be used, or its file is not the seed of a user.
    """
    return _public(
        folder / SEED_FILE, partial(_new, nkeys.PREFIX_BYTE_USER), partial(public_key_of, kind="U"), "a NATS user"
    )


def issuer_key(folder: Path) -> str:
    """The public key of the account key that signs logins."""
    return _public(
        folder / ISSUER_FILE,
        partial(_new, nkeys.PREFIX_BYTE_ACCOUNT),
        partial(public_key_of, kind="A"),
        "a NATS account",
    )


def curve_key(folder: Path) -> str:
    """The public key that logins are encrypted for."""
    return _public(folder / XKEY_FILE, new_seed, lambda seed: CurveKey(seed).public, "an xkey")


def _public(path: Path, new: Callable[[], str], public_of: Callable[[str], str], kind: str) -> str:
    try:
        seed = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        seed = new()
        _write(path, seed)
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read.") from None
    try:
        return public_of(seed)
    except ValueError:
        raise ConfigError(f"{path} does not contain the seed of {kind}.") from None


def _new(kind: int) -> str:
    seed: bytes = nkeys.encode_seed(os.urandom(32), kind)
    return seed.decode()


def _write(path: Path, seed: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent} cannot be made: {error.strerror}.") from None
    write_private(path, seed)
