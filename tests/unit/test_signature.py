"""Signatures of events: the exact bytes, and that nothing else passes for one."""

import base64
import json
import secrets
from pathlib import Path

import nkeys
import pytest

from stint.core.audit.signature import MAX_BYTES, named_signer, signature_text, signed_bytes, verified_signer
from stint.core.names.headers import SIGNATURE
from stint.core.names.subjects import EventAddress, publisher_inbox
from stint.jetstream import Access, EventSigner
from stint.natsauth.callout.rule import LoginRefusedError, decide
from stint.publisher.publisher import signing
from stint.vault import Vault

SUBJECT, BODY = EventAddress("submitted", "mrsxa3dppfzq", "a" * 24).subject, b'{"type":"submitted"}'
SIGNER = EventSigner.new()
GOLDEN = Path(__file__).parents[1] / "golden" / "signatures"
GOOD = SIGNER.signature(SUBJECT, BODY)


def test_the_signed_bytes_are_these() -> None:
    """Publishers in other languages make the same ones."""
    wanted = b"\xffstint-signature-1\nev." + b"a" * 24 + b'.mrsxa3dppfzq.submitted\n{"type":"submitted"}'
    assert signed_bytes(SUBJECT, BODY) == wanted
    nkey, _, signature = GOOD.partition(".")
    assert base64.urlsafe_b64decode(signature + "==") == nkeys.from_seed(SIGNER.seed.encode()).sign(wanted)
    assert (nkey, SIGNER.headers(SUBJECT, BODY)) == (SIGNER.nkey, {SIGNATURE: GOOD})


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_signed_for_an_earlier_version_is_still_right(path: Path) -> None:
    """Ed25519 has one signature for each message, so that a publisher in any language can compare its own."""
    signed = json.loads(path.read_bytes())
    subject, body = signed["subject"], signed["body"].encode()
    assert verified_signer(signed["header"], subject, body) == signed["nkey"]
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER).decode()
    assert EventSigner(seed=seed).signature(subject, body) == signed["header"]


def test_it_is_for_one_subject_and_one_body_and_every_changed_character_is_noticed() -> None:
    places = (("submitted", "mrsxa3dppfzq", "b"), ("submitted", "_", "a"), ("kill_requested", "mrsxa3dppfzq", "a"))
    for subject in ("", *(EventAddress(kind, token, digit * 24).subject for kind, token, digit in places)):
        assert verified_signer(GOOD, subject, BODY) == ""
    for body in (b"", BODY + b" ", BODY[:-1], b"\n" + BODY):
        assert verified_signer(GOOD, SUBJECT, body) == ""
    for place in range(len(GOOD) - 1):  # the last one has bits that mean nothing
        changed = "A" if GOOD[place] != "A" else "B"
        assert verified_signer(GOOD[:place] + changed + GOOD[place + 1 :], SUBJECT, BODY) == ""


def test_a_server_cannot_have_it_signed_as_the_nonce_of_a_login() -> None:
    """A client signs each nonce with the same key, and a nonce is what JSON can say."""
    with pytest.raises(UnicodeDecodeError):
        signed_bytes(SUBJECT, BODY).decode()
    for text in ('{"nonce": "\\u00ffstint-signature-1\\n"}', '{"nonce": "\ufffdstint-signature-1\\n"}'):
        assert not signed_bytes("", b"").startswith(json.loads(text)["nonce"].encode()[:1])


def of_kind(kind: int) -> str:
    key = nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), kind))
    return signature_text(key.public_key.decode(), key.sign(signed_bytes(SUBJECT, BODY)))


ZERO = "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""What is no key, because its checksum is wrong."""


WRONG = {
    "nothing": "",
    "a point": ".",
    "lower case": GOOD.lower(),
    "space behind": f"{GOOD} ",
    "line feed before": f"\n{GOOD}",
    "padded": f"{GOOD}=",
    "no point": GOOD.replace(".", ""),
    "a key alone": SIGNER.nkey,
    "zeros": f"{SIGNER.nkey}.{'A' * 86}",
    "another's key": f"{EventSigner.new().nkey}.{GOOD.partition('.')[2]}",
    "no key": f"{ZERO}.{'A' * 86}",
    "surrogates": "\ud800" * 143,
    "an account's key": of_kind(nkeys.PREFIX_BYTE_ACCOUNT),
    "a server's key": of_kind(nkeys.PREFIX_BYTE_SERVER),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_right_signature_counts_as_none(name: str) -> None:
    assert verified_signer(WRONG[name], SUBJECT, BODY) == ""


def test_a_large_body_counts_as_not_signed() -> None:
    body = b"x" * MAX_BYTES
    assert verified_signer(SIGNER.signature(SUBJECT, body), SUBJECT, body) == SIGNER.nkey
    large = body + b"x"
    text = SIGNER.signature(SUBJECT, large)
    assert (named_signer(text, large), verified_signer(text, SUBJECT, large)) == ("", "")


CREDS = (("NATS USER JWT", "x"), ("USER NKEY SEED", SIGNER.seed))


def test_a_connection_with_a_key_signs_with_it() -> None:
    access = Access(url="nats://127.0.0.1:1", nkey=SIGNER.seed)
    assert signing(access, "hvs.token") == (access, SIGNER)
    jwt, seed = (f"-----BEGIN {name}-----\n{text}\n------END {name}------\n" for name, text in CREDS)
    assert signing(Access(url="nats://127.0.0.1:1", creds=jwt + seed), "")[1] == SIGNER
    assert SIGNER.seed not in repr(SIGNER)


@pytest.mark.parametrize(("password", "token"), [("a password", "hvs.token"), ("", ""), ("", "hvs.token")])
def test_a_connection_with_anything_else_is_left_as_it_is(password: str, token: str) -> None:
    access = Access(url="nats://127.0.0.1:1", user="ann", password=password)
    assert signing(access, token) == (access, EventSigner())
    assert EventSigner().headers(SUBJECT, BODY) == {}


def test_a_vault_token_gets_a_new_key_which_the_login_names_and_proves() -> None:
    access = Access(url="nats://127.0.0.1:1", user="deploys,net core", password="hvs.token")
    named, signer = signing(access, "hvs.token")
    assert signer.nkey != signing(access, "hvs.token")[1].nkey
    queues, _, proof = named.user.rpartition(",=")
    assert (queues, named.password) == ("deploys,net core", "hvs.token")
    assert verified_signer(proof, publisher_inbox("hvs.token"), b"") == signer.nkey


@pytest.mark.parametrize(
    "named",
    [
        "deploys,=UABC",
        f"deploys,={SIGNER.nkey}",
        f"deploys,={GOOD}",
        f"deploys,={SIGNER.signature(publisher_inbox('hvs.another'), b'')}",
        ",".join(["deploys", *[f"={SIGNER.signature(publisher_inbox('hvs.token'), b'')}"] * 2]),
    ],
    ids=["no signature", "a key alone", "of an event", "of another token", "two"],
)
async def test_a_key_that_a_login_does_not_prove_is_refused(named: str) -> None:
    with pytest.raises(LoginRefusedError, match="one signature"):
        await decide(Vault("http://127.0.0.1:1"), named, "hvs.token")
