"""The key with which a publisher signs its events: that of its connection, or one made for its Vault token."""

from dataclasses import replace

from stint.core.names.subjects import publisher_inbox
from stint.jetstream import Access, EventSigner


def signing(access: Access, token: str) -> tuple[Access, EventSigner]:
    """The signer for a connection, and the access that lets NATS know its key.

    A connection with an nkey or a credentials file signs with their seed. For one whose password is this Vault token
    a key is made, and named in the list of queues together with a signature, so that nobody else can log in with it.
    """
    if access.seed:
        return access, EventSigner(seed=access.seed)
    if not token or access.password != token:
        return access, EventSigner()
    signer = EventSigner.new()
    named = f"{access.user},={signer.signature(publisher_inbox(token), b'')}"
    return replace(access, user=named), signer
