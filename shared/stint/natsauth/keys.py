"""The users' keys: an nkey each, whose seed is in a file of its own."""

import os
from pathlib import Path

import nkeys

from stint.core.errors import ConfigError
from stint.natsauth.roles import SEED_FILE
from stint.process.env_file import write_private


def public_key(folder: Path) -> str:
    """The public key of the seed in this folder. A seed is made if there is none.

    Raises:
        ConfigError: the folder cannot be used, or its file is not the seed of a user.
    """
    path = folder / SEED_FILE
    try:
        seed = path.read_bytes().strip()
    except FileNotFoundError:
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        _write(path, seed.decode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        key: str = nkeys.from_seed(seed).public_key.decode()
    except nkeys.NkeysError:
        key = ""
    if not key.startswith("U"):
        raise ConfigError(f"{path} does not contain the seed of a NATS user.")
    return key


def _write(path: Path, seed: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent} cannot be made: {error.strerror}.") from None
    write_private(path, seed)
