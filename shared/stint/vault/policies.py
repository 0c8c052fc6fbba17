"""The policies and AppRoles in Vault, as data, and the paths that represent queues in policies.

A policy on a queue's path says who may do what with the queue. Nothing is ever stored there.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stint.core.errors import ConfigError
from stint.core.names.ids import normalise_queue_name, queue_name, queue_token
from stint.vault.ticket import BUS_KEY
from stint.vault.transit import RECEIPT_KEY

API: Final = "stint-api"
RUNNER: Final = "stint-runner"
CLIENT: Final = "stint-client"  # may submit, see, kill and delete jobs in every queue
SEALER: Final = "stint-sealer"  # may seal jobs, and use no queue: for clients to whom another policy gives some
OPERATOR: Final = "stint-operator"  # may see all jobs, release held ones, pause queues, and drain runners
PUBLISHER: Final = "stint-publisher"
SESSION_KEY: Final = "stint-session"
"""The transit key that seals the tokens of those who are signed in to the page. Only the API may use it."""

QUEUES: Final = "stint/queue/"
RELEASES: Final = "stint/release/"
"""Policies on these paths allow to release held jobs. A separate path, because a premature release can break the
guarantee of one job at a time."""
PAUSES: Final = "stint/pause/"  # policies on these paths allow to pause queues, and to resume them
DRAINS: Final = "stint/drain/"  # policies on these paths allow to drain runners
KEYS: Final = "stint-keys"  # the mount of the payloads' own keys, KV version 1: what is removed has no older version
PUBLISHERS: Final = "publishers/"
"""Where publishers' keys are in that mount: in a folder for each identity, so that nobody can fill that of another."""
_OWN_FOLDER: Final = f"{KEYS}/{PUBLISHERS}{{{{identity.entity.id}}}}"
"""Vault puts the token's identity there. For a token without an identity this rule is void."""
JOB_TOKEN_USES: Final = 10  # as in GoStint's own set-up: one for each path of secrets; one that is left revokes it
MARK: Final = "="  # prefix of a queue's token in a path. No queue's name is used in a path if it begins with it

_SPECIAL: Final = frozenset('*"\\{}$')  # characters with a special meaning in a policy's path

_TAKEN: Final = frozenset(
    {API, RUNNER, CLIENT, SEALER, OPERATOR, PUBLISHER, BUS_KEY, RECEIPT_KEY, SESSION_KEY, "default", "root"}
)
_ROLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PATTERN: Final = re.compile(r"[\w\-./+*]+", re.ASCII)

_OWN_TOKEN: Final = (("auth/token/lookup-self", "read"), ("auth/token/revoke-self", "update"))
"""The only rights of the policy `default` that Stint needs."""
_OWN_CAPABILITIES: Final = ("sys/capabilities-self", "update")
"""A right of `default` too: `stint nats-auth` asks with the publisher's token."""


def policies(role: str, secret_paths: Sequence[str], registries: str = "") -> Mapping[str, str]:
    """Policy texts by name. The jobs' policy has their role's name. Raises ConfigError if a name or path is invalid.

    `role` is the jobs' AppRole, and the key that seals payloads; `secret_paths` are what jobs may read, as path
    patterns of Vault (with `data/` for KV v2); from `registries` runners may read logins for image registries, "" for
    none.
    """
    _check(role, [*secret_paths, registries] if registries else secret_paths)
    seal_payload = (f"transit/encrypt/{role}", "update")
    seal_ticket = (f"transit/encrypt/{BUS_KEY}", "update")
    wrapped_secret_id = _wrapped(f"auth/approle/role/{role}/secret-id")
    sealer = _rules(("auth/token/create", "update"), seal_payload, *_OWN_TOKEN) + wrapped_secret_id
    return {
        API: _rules(
            seal_ticket,
            seal_payload,
            (f"transit/encrypt/{SESSION_KEY}", "update"),
            (f"transit/decrypt/{SESSION_KEY}", "update"),
            (f"transit/sign/{RECEIPT_KEY}", "update"),
            (f"transit/keys/{RECEIPT_KEY}", "read"),
            (f"{KEYS}/*", "create", "update", "delete"),
            *((f"{KEYS}/{folder}", "list") for folder in ("", PUBLISHERS, f"{PUBLISHERS}+/")),
            ("sys/capabilities", "update"),
            *_OWN_TOKEN,
        ),
        RUNNER: _rules(
            (f"transit/decrypt/{BUS_KEY}", "update"),
            (f"transit/decrypt/{role}", "update"),
            (f"{KEYS}/*", "read"),
            *([(registries, "read")] if registries else []),
            *_OWN_TOKEN,
        ),
        role: _rules(*((path, "read") for path in secret_paths), *_OWN_TOKEN),
        CLIENT: sealer + _rules((f"{QUEUES}*", "create", "read", "update", "delete")),
        SEALER: sealer,
        OPERATOR: _rules(
            (f"{QUEUES}*", "read"), *((f"{path}*", "update") for path in (RELEASES, PAUSES, DRAINS)), *_OWN_TOKEN
        ),
        PUBLISHER: _rules(seal_ticket, seal_payload, (f"{_OWN_FOLDER}/+", "create"), _OWN_CAPABILITIES, *_OWN_TOKEN)
        + wrapped_secret_id,
    }


def app_roles(role: str) -> Mapping[str, Mapping[str, Any]]:
    """AppRoles by name. Times are in seconds, 0 uses means no limit."""
    hour = 3600
    service = {
        "bind_secret_id": True,
        "secret_id_num_uses": 0,
        "secret_id_ttl": 0,
        "token_num_uses": 0,
        "token_ttl": hour,
        "token_max_ttl": hour,  # a service logs in again instead of renewing
        "token_no_default_policy": True,
    }
    job = {
        **service,
        "secret_id_num_uses": 1,
        "secret_id_ttl": 32 * 24 * hour,  # Vault's longest wrapping; ids of jobs that never ran go away after it
        "token_num_uses": JOB_TOKEN_USES,
        "token_ttl": 20 * 60,
        "token_max_ttl": 30 * 60,
    }
    return {
        API: {**service, "token_policies": [API]},
        RUNNER: {**service, "token_policies": [RUNNER]},
        role: {**job, "token_policies": [role]},
    }


def _rules(*rules: tuple[str, ...]) -> str:
    """Each rule is a path, and the capabilities on it."""
    texts = ((path, ", ".join(f'"{capability}"' for capability in capabilities)) for path, *capabilities in rules)
    return "".join(f'path "{path}" {{\n  capabilities = [{listed}]\n}}\n' for path, listed in texts)


def _wrapped(path: str) -> str:
    """A rule that allows only wrapped answers. Any minimum TTL forces wrapping; the client chooses the TTL."""
    return f'path "{path}" {{\n  capabilities = ["update"]\n  min_wrapping_ttl = "1s"\n}}\n'


def _check(role: str, secret_paths: Sequence[str]) -> None:
    if not _ROLE.fullmatch(role) or role in _TAKEN:
        raise ConfigError(
            "STINT_ROLE: must consist of letters, digits, - and _, and must not be a name that Stint itself uses."
        )
    if not all(_PATTERN.fullmatch(path) and ".." not in path for path in secret_paths):
        raise ConfigError("A secret path contains characters that are not allowed in a Vault path.")


def queue_path(name: str, folder: str = QUEUES) -> str:
    """The path for policies on a queue, in lower case, or on what else this folder is for.

    Its last part is the name, or its token if Vault would confuse it with another or a policy could not contain it.
    """
    return folder + (name if _is_literal(name) else f"{MARK}{queue_token(name)}")


def named_queue(text: str) -> str:
    """The queue whose path ends with this text: a name, or `=` and a queue's token, which can stand for any name.

    Raises InvalidQueueNameError if no queue has this name, InvalidTokenError if none has this token.
    """
    return queue_name(text.removeprefix(MARK)) if text.startswith(MARK) else normalise_queue_name(text)


def _is_literal(qname: str) -> bool:
    """Whether it means this queue alone: Vault trims spaces, reads `a/` as `a`, and `*` and a part `+` as any text."""
    parts = qname.split("/")
    return (
        qname.isprintable()
        and qname == qname.strip()
        and not qname.startswith(MARK)
        and not _SPECIAL.intersection(qname)
        and all(part and part not in {".", ".."} and not part.startswith("+") for part in parts)
    )
