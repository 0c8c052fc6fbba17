"""What the server asks about a login, and what it is answered."""

from dataclasses import dataclass, field
from typing import Final, Self

from stint.core.errors import UndecodableError
from stint.natsauth.callout.jwt import signed, verified
from stint.natsauth.callout.rule import Grant
from stint.natsauth.config import SUBSCRIPTIONS, permissions

AUDIENCE: Final = "nats-authorization-request"
_VERSION: Final = 2
_UNLIMITED: Final = -1


@dataclass(frozen=True, slots=True)
class Login:
    """A client that logs in."""

    server: str  # the id of the server that asks, an nkey
    user_key: str  # the nkey that the server has made up for the connection
    at: int  # when the server asked, in Unix seconds by its own clock, which judges when a login ends
    # The queues, as the client lists them in place of a user's name.
    listed: str = field(repr=False)  # whoever confuses the two has put a token there
    token: str = field(repr=False)  # its Vault token, which it gives as the password
    host: str
    connection: int = 0  # its number at the server
    # Names of consumers, separated by spaces, whose queues a runner needs; it gives them as a token.
    asks: str = field(default="", repr=False)
    nkey: str = ""  # its public key, "" if it has none
    nonce: str = ""  # what the server has asked it to sign with the key
    signature: str = field(default="", repr=False)  # in base64

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a server's request. Raises UndecodableError if it is none, or not signed by the server that it names."""
        claims = verified(text)
        try:
            asked = claims["nats"]
            options, server = asked["connect_opts"], str(asked["server_id"]["id"])
            if claims["aud"] != AUDIENCE or claims["iss"] != server or not server.startswith("N"):
                raise UndecodableError("Not a request for an authorization.")
            return cls(
                server=server,
                user_key=str(asked["user_nkey"]),
                at=int(claims["iat"]),
                listed=str(options.get("user") or ""),
                token=str(options.get("pass") or ""),
                host=str(asked["client_info"].get("host", "")),
                connection=int(asked["client_info"].get("id", 0)),
                asks=str(options.get("auth_token") or ""),
                nkey=str(options.get("nkey") or ""),
                nonce=str(asked["client_info"].get("nonce", "")),
                signature=str(options.get("sig") or ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UndecodableError("The request for an authorization is incomplete.") from None


def allowed(login: Login, grant: Grant, *, expires_at: int | None, seed: bytes) -> str:
    """The answer that lets the client in, until a time in Unix seconds or for ever."""
    given = permissions(grant.role, grant.inbox)
    user = {
        "sub": login.user_key,
        "aud": grant.role.account,
        "name": f"{grant.name} {grant.accessor} {grant.owner_hash}",
        **({"exp": expires_at} if expires_at else {}),
        "nats": {
            "pub": given["publish"],
            "sub": given["subscribe"],
            "subs": SUBSCRIPTIONS,
            "data": _UNLIMITED,
            "payload": _UNLIMITED,
            "type": "user",
            "version": _VERSION,
        },
    }
    return _answer(login, seed, jwt=signed(user, seed))


def refused(login: Login, sentence: str, *, seed: bytes) -> str:
    """The answer that keeps the client out. The server logs the sentence."""
    return _answer(login, seed, error=sentence)


def _answer(login: Login, seed: bytes, **outcome: str) -> str:
    answer = {"type": "authorization_response", "version": _VERSION, **outcome}
    return signed({"sub": login.user_key, "aud": login.server, "nats": answer}, seed)
