"""Which Vault paths stand for a queue: policies on them say who may do what. Nothing is ever stored there."""

from typing import Final

from stint.core.subjects import queue_token

QUEUES: Final = "stint/queue/"
RELEASES: Final = "stint/release/"
"""Policies on these paths let a held queue go on: a capability of its own, since a release can break the promise."""
MARK: Final = "="
"""What the last part of a path begins with if it is a queue's token. No name stands in a path that begins so."""

_SPECIAL: Final = frozenset('*"\\{}$')
"""Characters that mean something else in a policy's path."""


def queue_path(qname: str) -> str:
    """Where policies on a queue stand; `qname` is lower-cased."""
    return QUEUES + _place(qname)


def release_path(qname: str) -> str:
    """Where the policy stands that lets a held job of this queue be released."""
    return RELEASES + _place(qname)


def _place(qname: str) -> str:
    """The name, or for a name that Vault would take for another one, or a policy could not spell, its token."""
    return qname if _is_literal(qname) else f"{MARK}{queue_token(qname)}"


def _is_literal(qname: str) -> bool:
    """Whether a policy on this name means this queue and no other one.

    Vault trims white space and takes `a/` for `a`; in a policy `*` and a part that is `+` stand for any text.
    """
    parts = qname.split("/")
    return (
        qname.isprintable()
        and qname == qname.strip()
        and not qname.startswith(MARK)
        and not _SPECIAL.intersection(qname)
        and all(part and part not in {".", ".."} and not part.startswith("+") for part in parts)
    )
