"""`stint nats-config`: writes a nats-server configuration, and a key for each service."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import typer

from stint.cli.errors import importing, reported
from stint.cli.options import taking
from stint.core.errors import ConfigError
from stint.core.names.patterns import QueuePatterns
from stint.core.names.subjects import JS_PREFIX
from stint.natsauth.cluster import CLUSTER, certificate, check_routes, cluster
from stint.natsauth.config import SYSTEM_ACCOUNT, accounts, callout, rendered
from stint.natsauth.roles import CALLOUT, OPERATOR, SEED_FILE, SERVICES
from stint.natsauth.users import (
    by_name,
    decided_users,
    pool_named,
    publisher_named,
    runner_user,
    subscriber_name,
)
from stint.process.env_file import is_open, save
from stint.process.lock import locked

DIFFERENT: Final = 1  # exit code: a file differs, and was not changed
PUBLISHERS: Final = "publishers"  # the folder of the publishers' keys
BUFFERED: Final = 400
"""Messages that may wait for each stream; the server drops more, and says so. Its own limit of 10,000 would take a disk
10 s to sync, so that a publisher that sends more than the disk can take would delay all others by so long."""
SUBSCRIBERS: Final = "subscribers"  # the folder of the subscribers' keys
CLUSTER_FILE: Final = "cluster.conf"  # what only a server of a cluster has, with the password
POOLS: Final = "pools"  # the folder of the pools' keys

app = typer.Typer(add_completion=False)


@dataclass(kw_only=True)
class _Options:
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write; it is created if it does not exist.")
    ]
    publisher: Annotated[
        list[str] | None,
        typer.Option(help="NAME=QUEUE[,QUEUE…]: a user who may submit to these queues directly; repeat it for more."),
    ] = None
    subscriber: Annotated[
        list[str] | None,
        typer.Option(help="NAME: a user who is told about jobs, by what `stint subscribe` makes; repeat it for more."),
    ] = None
    runner: Annotated[
        list[str] | None,
        typer.Option(help="NAME: a key for this runner alone, which can announce no other one; repeat it for more."),
    ] = None
    pool: Annotated[
        list[str] | None,
        typer.Option(help="NAME=QUEUE[,QUEUE…]: runners who serve these queues or patterns; repeat it for more."),
    ] = None
    accounts_only: Annotated[
        bool, typer.Option("--accounts-only", help="For a NATS that already runs: write no server's settings.")
    ] = False
    listen: Annotated[str, typer.Option(help="The server's address for clients.")] = "127.0.0.1:4222"
    name: Annotated[str, typer.Option(help="The server's name; each server of a cluster needs another one.")] = "stint"
    store: Annotated[Path | None, typer.Option(help="The server's data. Default: `data` in the folder.")] = None
    monitor: Annotated[str, typer.Option(help="The address for health checks; none if empty.")] = ""
    cluster: Annotated[str, typer.Option(help="The cluster's address of this server; none if empty.")] = ""
    route: Annotated[list[str] | None, typer.Option(help="nats://HOST:PORT of another server of the cluster.")] = None
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate chain; requires TLS.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None
    tls_ca: Annotated[
        Path | None,
        typer.Option(help="The authority by which servers of a cluster verify each other. Default: the system's."),
    ] = None
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth",
            help="Let publishers, and pools with patterns, log in through `stint nats-auth`. Default: on, "
            "but off with --accounts-only, because it decides every login that the configuration does not list.",
            show_default=False,
        ),
    ] = None
    system_account: Annotated[
        str, typer.Option(help="The system account of a NATS that already runs, if it has another name.")
    ] = SYSTEM_ACCOUNT
    update: Annotated[bool, typer.Option("--update", help="Change files that differ. First look without it.")] = False


@app.command()
@taking(_Options)
def nats_config(options: _Options) -> None:
    """Write a nats-server configuration with an account for each role, and a key for each service.

    Writes `accounts.conf` and `nats.conf`, and one file with an nkey's seed for each service, the operator, and each
    publisher, subscriber and pool: FOLDER/api/STINT_NATS_NKEY and so on. Safe to repeat: keys that exist are kept.
    Shows what differs in the configuration, and changes it only with --update; then restart the server, or with
    --no-auth reload it (`nats-server --signal reload`).

    Name all publishers, subscribers, runners and pools each time: one that is not named can no longer log in.

    Exit codes: 1 something differs and was not changed, 2 wrong option, or a file that cannot be used.

    Example: `stint nats-config nats --publisher shop=deploys,reports --subscriber board`
    """
    folder = options.folder
    with reported("stint nats-config"):
        users, server = _users(options), _server(options)  # a wrong option leaves nothing behind
        with _alone_in(folder):
            files = _accounts(options, users)
            if not options.accounts_only:
                parts = ["accounts.conf", *([CLUSTER_FILE] if options.cluster else [])]
                files["nats.conf"] = rendered(server) + "".join(f"include {file}\n" for file in parts)
                if options.cluster:
                    files[CLUSTER_FILE] = _cluster(options)
            unchanged = [file for file, text in files.items() if not _write(folder / file, text, update=options.update)]
    _tell(folder, accounts_only=options.accounts_only, cluster=bool(options.cluster))
    for user, served in users.pools.items():
        _tell_of_pool(folder / POOLS / user, user, served, confined=_auth(options))
    if unchanged:
        raise typer.Exit(DIFFERENT)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Make the folder, and have another `stint nats-config` for it wait: all files must fit the same keys."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}.") from None
    with locked(folder):
        yield


class _Users(NamedTuple):
    own: Sequence[str]  # services and the operator
    publishers: Mapping[str, Sequence[str]]
    subscribers: Sequence[str]
    pools: Mapping[str, QueuePatterns]


def _users(options: _Options) -> _Users:
    runners = map(runner_user, options.runner or ())
    users = _Users(
        own=[OPERATOR, *(role.name for role in SERVICES), *runners, *([CALLOUT] if _auth(options) else [])],
        publishers=by_name("--publisher", map(publisher_named, options.publisher or ())),
        subscribers=[*map(subscriber_name, options.subscriber or ())],
        pools=by_name("--pool", map(pool_named, options.pool or ())),
    )
    if both := {*users.own, *users.publishers} & users.pools.keys():
        raise ConfigError(f"--pool: {min(both)} is the name of another user.")
    return users


def _accounts(options: _Options, users: _Users) -> dict[str, str]:
    """The accounts, and the list of users for `nats-auth`."""
    folder, (own, publishers, subscribers, pools) = options.folder, users
    with importing("nats"):
        from stint.natsauth import keys as files  # noqa: PLC0415 - clients lack the library
    folders = {user: folder / user for user in own} | {user: folder / PUBLISHERS / user for user in publishers}
    folders |= {user: folder / POOLS / user for user in pools}
    keys = {user: files.public_key(path) for user, path in folders.items()}
    subscriber_keys = {user: files.public_key(folder / SUBSCRIBERS / user) for user in subscribers}
    settings = {"accounts": accounts(keys, publishers, subscriber_keys, pools)}
    if not _auth(options):
        return {"accounts.conf": rendered(settings)}
    issuer, xkey = files.issuer_key(folder / CALLOUT), files.curve_key(folder / CALLOUT)
    decided = decided_users(keys, publishers, pools)
    through_auth = callout(keys, issuer, xkey, decided, subscriber_keys, system=options.system_account)
    settings["accounts"] |= through_auth["accounts"]
    settings["authorization"] = through_auth["authorization"]
    users_file = msgspec.json.encode(decided).decode() + "\n"
    return {"accounts.conf": rendered(settings), f"{CALLOUT}/{files.USERS_FILE}": users_file}


def _auth(options: _Options) -> bool:
    return not options.accounts_only if options.auth is None else options.auth


def _server(options: _Options) -> dict[str, Any]:
    store = options.store or options.folder / "data"
    check_routes(options.cluster, options.route or ())
    return {
        "server_name": options.name,
        "listen": options.listen,
        **({"http": options.monitor} if options.monitor else {}),
        # What was acknowledged survives a power failure, for 0.41 instead of 0.18 ms a message.
        "jetstream": {"store_dir": str(store.absolute()), "sync_interval": "always", "max_buffered_msgs": BUFFERED},
        **({"tls": tls} if (tls := certificate(options.tls_cert, options.tls_key)) else {}),
    }


def _cluster(options: _Options) -> str:
    with importing("nats"):
        from stint.natsauth.keys import routes_password  # noqa: PLC0415 - clients lack the library
    tls, password = certificate(options.tls_cert, options.tls_key), routes_password(options.folder / CLUSTER)
    return rendered({"cluster": cluster(options.cluster, options.route or (), password, tls, options.tls_ca)})


def _write(path: Path, text: str, *, update: bool) -> bool:
    """Write a file. False, and the difference is shown, if it is there with another text and may not be changed.

    Of the cluster's file, which contains a password, no difference is shown, and only its owner may read it.
    """
    private = path.name == CLUSTER_FILE
    try:
        present = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
        if present is not None and present != text:
            lines = difflib.unified_diff(present.splitlines(), text.splitlines(), "present", "wanted", lineterm="")
            if not private:
                typer.echo("\n".join(lines))
            if not update:
                typer.echo(f"differs, not changed: {path}")
                return False
        if present != text or (private and is_open(path)):
            save(path, text, private=private)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{path} cannot be written: a path or name in it is not valid Unicode.") from None
    typer.echo(f"{'found' if present == text else 'updated' if present else 'written'} {path}")
    return True


def _tell(folder: Path, *, accounts_only: bool, cluster: bool) -> None:
    typer.echo(
        f"Start each service with STINT_NATS_NKEY_FILE={folder}/<service>/{SEED_FILE} STINT_JS_PREFIX={JS_PREFIX}"
        + (" STINT_REPLICAS=3" if cluster else "")
    )
    if accounts_only:
        typer.echo(f"Add the accounts of {folder / 'accounts.conf'} to your server's, and have it read them.")


def _tell_of_pool(folder: Path, name: str, served: QueuePatterns, *, confined: bool) -> None:
    typer.echo(
        f"Start the runners of {name} with STINT_NATS_NKEY_FILE={folder / SEED_FILE} STINT_JS_PREFIX={JS_PREFIX} "
        f"STINT_QUEUES='{','.join(served.patterns)}'"
    )
    if served.names is None:
        typer.echo(
            f"The runners of {name} log in through `stint nats-auth`, which confines their key to these patterns."
            if confined
            else f"Without --auth nothing confines a key to patterns: that of {name} may take all queues' jobs."
        )
