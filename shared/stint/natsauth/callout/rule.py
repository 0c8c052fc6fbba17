"""Vault's policies decide, as for the REST API: the capabilities of the client's token on the paths of queues."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from stint.core.audit.signature import KeyOwner, verified_signer
from stint.core.errors import InvalidQueueNameError, InvalidTokenError, StintError
from stint.core.names.ids import queue_token
from stint.core.names.subjects import publisher_inbox
from stint.natsauth.requests import Role, merged
from stint.natsauth.roles import publisher
from stint.vault import Vault, queue_path
from stint.vault.actions import KILL, READ, SUBMIT, refusal_text
from stint.vault.policies import MARK, named_queue

QUEUES: Final = 50  # in one login. Each needs about twenty subjects, which the server keeps for the connection
KEY_MARK: Final = f"{MARK}U"  # how the signature in the list of queues begins. Tokens of queues are in lower case


class LoginRefusedError(StintError):
    """The login is refused."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client gets."""

    role: Role
    seconds: float | None  # for which the token lasts; None if it does not expire
    name: str  # Vault's display name of the token
    accessor: str = field(repr=False)  # names the token and cannot be used as one, "" for batch tokens
    # The same for all tokens of an identity of Vault; for one without an identity, what names only this token; without
    # a token the key.
    owner: str = field(repr=False)
    inbox: str = field(repr=False)  # the prefix of the subjects on which it receives answers
    entity: str = ""  # id of the identity, "" if there is none
    signer: str = ""  # the public nkey with which the client signs events, "" if it has named none

    @property
    def owner_hash(self) -> str:
        """Names the owner where others read it: for a batch token `owner` is an inbox that only it may know."""
        return hashlib.sha256(self.owner.encode()).hexdigest()

    def key_owner(self, at: int) -> KeyOwner:
        """Whose the client's key is, for a login at this time in Unix seconds."""
        return KeyOwner(owner=self.owner_hash, who=self.name, entity=self.entity, accessor=self.accessor, at=at)


async def decide(vault: Vault, listed: str, token: str) -> Grant:
    """Ask Vault, with the client's own token, what it may do in the queues that it lists.

    Raises LoginRefusedError if the token may do nothing in one of them, or the login is none for this door;
    VaultError if Vault does not know the token, or does not answer.
    """
    if not token:
        raise LoginRefusedError("There is no Vault token: give it as the password, and the queues as the user.")
    listed, signer = _signer(listed, token)
    qnames = _queues(listed, token)
    caller = await vault.lookup_self(token)
    if caller.num_uses:
        raise LoginRefusedError("The token has a limited number of uses, and a connection is any number of uses.")
    paths = {qname: queue_path(qname) for qname in qnames}
    found = await vault.own_capabilities(token, list(paths.values()))
    roles = [_role(qname, found[path]) for qname, path in paths.items()]
    owner = caller.entity_id or caller.accessor or publisher_inbox(token)
    return Grant(
        role=merged(roles),
        seconds=caller.ttl or None,
        name=caller.display_name,
        accessor=caller.accessor,
        owner=owner,
        inbox=publisher_inbox(token),
        entity=caller.entity_id,
        signer=signer,
    )


def _role(qname: str, capabilities: frozenset[str]) -> Role:
    submit, kill, read = (action.allowed_by(capabilities) for action in (SUBMIT, KILL, READ))
    if not (submit or kill or read):
        raise LoginRefusedError(refusal_text(SUBMIT, qname))
    return publisher(queue_token(qname), submit=submit, kill=kill, read=read)


def _signer(listed: str, token: str) -> tuple[str, str]:
    """The list without the signature by which a client names its key, and the key."""
    parts = listed.split(",")
    signatures = [part.removeprefix(MARK) for part in parts if part.startswith(KEY_MARK)]
    signers = [verified_signer(text, publisher_inbox(token), b"") for text in signatures]
    if len(signers) > 1 or not all(signers):
        raise LoginRefusedError("What begins with =U must be one signature, by the client's key, for its own token.")
    return ",".join(part for part in parts if not part.startswith(KEY_MARK)), "".join(signers)


def _queues(listed: str, token: str) -> Sequence[str]:
    """The names, spelled as in policies and separated by commas."""
    if token in listed:
        raise LoginRefusedError("The user is the list of queues, and contains no token.")
    parts = list(dict.fromkeys(listed.split(",")))
    if not all(parts):
        raise LoginRefusedError('The user is the list of queues, separated by commas; "=_" is the one without a name.')
    if len(parts) > QUEUES:
        raise LoginRefusedError(f"A connection is for at most {QUEUES} queues.")
    try:
        return [named_queue(part) for part in parts]
    except InvalidQueueNameError as error:
        raise LoginRefusedError(error.sentence) from None
    except InvalidTokenError:
        raise LoginRefusedError("A queue that begins with = must be followed by its token in subjects.") from None
