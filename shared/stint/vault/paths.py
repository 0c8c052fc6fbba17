"""The Vault paths that represent queues. Policies on them say who may do what; nothing is ever stored there."""

from typing import Final

from stint.core.subjects import queue_token

QUEUES: Final = "stint/queue/"
RELEASES: Final = "stint/release/"
"""Policies on these paths allow to release held jobs. A separate path, because a premature release can break the
guarantee of one job at a time."""
MARK: Final = "="
"""Prefix of a queue's token in a path. No queue's name is used in a path if it begins with it."""

_SPECIAL: Final = frozenset('*"\\{}$')
"""Characters with a special meaning in a policy's path."""


def queue_path(qname: str) -> str:
    """The path for policies on a queue; `qname` is in lower case."""
    return QUEUES + _place(qname)


def release_path(qname: str) -> str:
    """The path for the policy that allows to release held jobs of this queue."""
    return RELEASES + _place(qname)


def _place(qname: str) -> str:
    """The name, or its token if Vault would confuse the name with another or a policy could not contain it."""
    return qname if _is_literal(qname) else f"{MARK}{queue_token(qname)}"


def _is_literal(qname: str) -> bool:
    """Whether a policy on this name means this queue and no other one.

    Vault trims white space and treats `a/` like `a`; in a policy `*` and a part `+` match any text.
    """
    parts = qname.split("/")
    return (
        qname.isprintable()
        and qname == qname.strip()
        and not qname.startswith(MARK)
        and not _SPECIAL.intersection(qname)
        and all(part and part not in {".", ".."} and not part.startswith("+") for part in parts)
    )
