"""The formats of NATS' auth callout, how a publisher names its queues, and what each role's account may do."""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import nkeys
import pytest

from stint.core.errors import ConfigError, UndecodableError
from stint.core.names.streams import JOBS_BUCKET, kv_stream
from stint.core.names.subjects import consumer_subject, output_subject, publisher_inbox
from stint.jetstream import Broker, EventSigner, JetStreamKeyOwners
from stint.jetstream.consuming import feed, making
from stint.jetstream.streams.topology import stream_configs
from stint.jetstream.wire import broker
from stint.natsauth.callout.admissions import Admissions
from stint.natsauth.callout.claims import AUDIENCE, Login
from stint.natsauth.callout.curve import CurveKey, new_seed
from stint.natsauth.callout.jwt import public_key_of, signed, verified
from stint.natsauth.callout.keyed import PoolQueues, decide_by_key, key_users
from stint.natsauth.callout.rates import Rates
from stint.natsauth.callout.rule import QUEUES, Grant, LoginRefusedError, decide
from stint.natsauth.callout.service import Callout, Logins
from stint.natsauth.config import STREAMS_ACCOUNT, TOLD_WITHIN, accounts, key_publisher
from stint.natsauth.requests import ANSWERS
from stint.natsauth.roles import OPERATOR, SERVICES, publisher
from stint.natsauth.users import decided_users
from stint.publisher import output
from stint.vault import Vault

NOWHERE, NO_POOLS = Vault("http://127.0.0.1:1"), PoolQueues(Broker("nats://127.0.0.1:1"))
"""Whoever asks them has asked too much."""


def seed(kind: int = nkeys.PREFIX_BYTE_SERVER) -> bytes:
    return bytes(nkeys.encode_seed(secrets.token_bytes(32), kind))


def request(server: bytes, **changed: Any) -> dict[str, Any]:
    own = public_key_of(server.decode(), "N")
    client = {"client_info": {"host": "10.0.0.9"}, "connect_opts": {"user": "deploys", "pass": "hvs.secret"}}
    return {"aud": AUDIENCE, "nats": {"server_id": {"id": own}, "user_nkey": "UABC", **client}, **changed}


def test_a_request_is_read_and_shows_no_token() -> None:
    server = seed()
    login = Login.parse(signed(request(server), server))
    assert (login.listed, login.token, login.host) == ("deploys", "hvs.secret", "10.0.0.9")
    assert "hvs" not in repr(login)


@pytest.mark.parametrize(
    "changed", [{"aud": "another"}, {"nats": {}}, {"nats": {"server_id": []}}, {"nats": None}, {"aud": None}]
)
def test_what_is_no_request_is_refused(changed: dict[str, Any]) -> None:
    server = seed()
    with pytest.raises(UndecodableError):
        Login.parse(signed(request(server, **changed), server))


def test_a_request_that_another_server_or_no_server_signed_is_refused() -> None:
    user = seed(nkeys.PREFIX_BYTE_USER)
    of_user = {**request(seed())["nats"], "server_id": {"id": public_key_of(user.decode(), "U")}}
    for forged, signer in ((request(seed()), seed()), (request(seed(), nats=of_user), user)):
        with pytest.raises(UndecodableError, match="Not a request"):
            Login.parse(signed(forged, signer))


def signed_login(key: nkeys.KeyPair, **changed: str) -> Login:
    signature = urlsafe_b64encode(key.sign(b"nonce")).decode().rstrip("=")
    options = {"nkey": key.public_key.decode(), "sig": signature, "nonce": "nonce"} | changed
    client = {"client_info": {"nonce": options.pop("nonce")}, "connect_opts": options}
    asked = request(server := seed())["nats"] | client
    return Login.parse(signed(request(server, nats=asked), server))


async def test_a_key_is_its_publishers_if_it_has_signed_the_nonce() -> None:
    key, other = (nkeys.from_seed(seed(nkeys.PREFIX_BYTE_USER)) for _ in range(2))
    own = key.public_key.decode()
    users = decided_users({"team": own}, {"team": ["net core", "x"]}, {})
    login = signed_login(key)
    padded = urlsafe_b64encode(key.sign(b"nonce")).decode().translate(str.maketrans("-_", "+/"))
    for good in (login, signed_login(key, sig=padded)):
        grant = await decide_by_key(users, good, NO_POOLS)
        assert (grant.name, grant.owner, grant.inbox) == ("team", own, "_INBOX.team")
        assert grant.role == key_publisher("team", ["net core", "x"])
    names = ({"nkey": name} for name in (other.public_key.decode(), "UNONE"))
    of_nothing = urlsafe_b64encode(key.sign(b"")).decode()
    for bad in (*names, {"sig": ""}, {"sig": "ü"}, {"nonce": "another"}, {"nonce": "", "sig": of_nothing}):
        with pytest.raises(LoginRefusedError, match="has not signed"):
            await decide_by_key(users, signed_login(key, **bad), NO_POOLS)
    with pytest.raises(LoginRefusedError, match="does not have this key"):
        await decide_by_key(users, signed_login(other), NO_POOLS)
    assert login.signature not in repr(login)


def callout() -> Callout:
    """A service that knows no user, and reaches no NATS and no Vault."""
    nats = Broker("nats://127.0.0.1:1")
    return Callout(
        broker=nats,
        vault=NOWHERE,
        logins=Logins(1),
        rates=Rates(1),
        admissions=Admissions(),
        users={},
        pools=NO_POOLS,
        owners=JetStreamKeyOwners(nats),
        issuer=seed(nkeys.PREFIX_BYTE_ACCOUNT),
        xkey=CurveKey(new_seed()),
        maximum=30,
        kept=1,
    )


async def test_while_too_many_are_decided_only_logins_with_keys_are() -> None:
    server = seed()
    with_token = Login.parse(signed(request(server), server))
    with_key = signed_login(nkeys.from_seed(seed(nkeys.PREFIX_BYTE_USER)))
    for login, reason in ((with_token, "Too many logins at a time."), (with_key, "does not have this key")):
        answer = await callout()._decision(login, busy=True)  # noqa: SLF001 - NATS would have to be that busy
        assert reason in verified(answer)["nats"]["error"]


async def test_a_token_in_its_last_second_opens_nothing() -> None:
    """It would be a login without an end."""
    server = seed()
    grant = Grant(role=publisher("x"), seconds=0.5, name="ann", accessor="", owner="ann", inbox="_INBOX.x")
    with pytest.raises(LoginRefusedError, match="about to end"):
        await callout()._allowed(Login.parse(signed(request(server), server)), grant)  # noqa: SLF001 - as above


@pytest.mark.parametrize("text", ["x", "[]", '{"U": 1}', '{"U": {"name": "team"}}'])
def test_what_is_no_list_of_users_is_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="STINT_NATS_AUTH_USERS"):
        key_users(text)
    assert key_users("") == {}


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "a.e30.c", "\ud800.e30.x", "a.bnVsbA.c", "9" * 5000])
def test_junk_is_no_token(text: str) -> None:
    with pytest.raises(UndecodableError):
        verified(text)


def test_a_token_that_was_changed_is_none() -> None:
    token = signed({"name": "one"}, seed())
    assert verified(token)["name"] == "one"
    header, claims, signature = token.split(".")
    changed = urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).replace(b"one", b"two")
    with pytest.raises(UndecodableError):
        verified(f"{header}.{urlsafe_b64encode(changed).decode().rstrip('=')}.{signature}")


def test_only_the_receiver_reads_and_only_what_its_sender_wrote() -> None:
    server, service, stranger = (CurveKey(new_seed()) for _ in range(3))
    sealed = server.sealed("hush", service.public)
    assert service.opened(sealed, server.public) == "hush"
    for key, sender, data in (
        (stranger, server.public, sealed),
        (service, stranger.public, sealed),
        (service, "XNOKEY", sealed),
        (service, server.public, sealed[:-1]),
        (service, server.public, b"xkv2" + sealed[4:]),
        (service, server.public, b""),
    ):
        with pytest.raises(UndecodableError):
            key.opened(data, sender)


def test_what_is_no_seed_of_a_curve_key() -> None:
    good = new_seed()
    for text in ("", "SX", "SXAFEPQ", "SUANOSEED", good[:-4] + "AAAA", good + "AA", good.lower(), seed().decode()):
        with pytest.raises(ValueError, match=r"curve key|padding|digit"):
            CurveKey(text)


def of_token() -> str:
    """How a client with the token names a key of its own."""
    return EventSigner.new().signature(publisher_inbox("hvs.secret"), b"")


@pytest.mark.parametrize(
    ("listed", "token", "sentence"),
    [
        ("deploys", "", "There is no Vault token"),
        ("", "hvs.secret", '"=_" is the one without a name'),
        ("deploys,", "hvs.secret", '"=_" is the one without a name'),
        ("hvs.secret", "hvs.secret", "contains no token"),
        ("deploys,hvs.secret", "hvs.secret", "contains no token"),
        ("=me,=mf", "hvs.secret", "must be followed by its token"),
        ("a\nb", "hvs.secret", "no control characters"),
        (f"deploys,={of_token()},={of_token()}", "hvs.secret", "must be one signature"),
        (",".join(map(str, range(QUEUES + 1))), "hvs.secret", f"at most {QUEUES} queues"),
    ],
)
async def test_a_login_that_vault_need_not_be_asked_about(listed: str, token: str, sentence: str) -> None:
    with pytest.raises(LoginRefusedError, match=sentence) as caught:
        await decide(NOWHERE, listed, token)
    assert "hvs" not in caught.value.sentence


KEYS = dict.fromkeys((OPERATOR, "told", *(role.name for role in SERVICES)), "UABC")


def test_the_server_forgets_the_way_back_of_several_answers_once_nobody_waits_for_them() -> None:
    exports = accounts(KEYS, {}, {"told": "UABC"}, {})[STREAMS_ACCOUNT]["exports"]
    several = {found["service"]: found for found in exports if found.get("response_type") == "stream"}
    kept = {subject: found["response_threshold"] for subject, found in several.items()}
    assert kept["$JS.API.DIRECT.GET.EVENTS"] == kept["$JS.API.CONSUMER.MSG.NEXT.WORK.*"] == f"{ANSWERS}s"
    assert 2 * max(feed.PULL_WAIT, broker.REPLICA_WAIT) < ANSWERS
    assert {kept[subject] for subject in kept if "told" in subject} == {"120s"}, "its library decides how long it waits"


def test_the_server_soon_forgets_the_way_back_of_a_request_that_nobody_answers() -> None:
    """Any publisher and any pool can send requests that are dropped."""
    made = accounts(KEYS, {}, {"told": "UABC"}, {})
    told = {(name, found["service"]): found for name in made for found in made[name]["exports"] if "service" in found}
    assert told["STINT_API", output_subject("*", "*", "*")]["response_threshold"] == TOLD_WITHIN
    assert told["STINT_PROJECTOR", consumer_subject("*")]["response_threshold"] == TOLD_WITHIN
    assert max(making.ANSWER, output.ASKED) < float(TOLD_WITHIN.removesuffix("s"))


def test_the_only_stream_that_takes_atomic_batches_is_the_projectors() -> None:
    """NATS has few places for them in a stream, and keeps what is not finished on its disk, in no quota."""
    assert [config["name"] for config in stream_configs(1) if config.get("allow_atomic")] == [kv_stream(JOBS_BUCKET)]
