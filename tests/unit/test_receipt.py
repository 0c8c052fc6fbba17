"""Receipts: what they state, the exact bytes of it, and that no change goes unnoticed."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from nacl.signing import SigningKey

from stint.cli.jobs.receipt import lines, verify_receipt
from stint.client.receipts import ForgedReceiptError, PublicKeys, UnknownKeyError, check_receipt
from stint.core.audit.receipt import MAX_BYTES, KeyName, Receipt, canonical, document, statement
from stint.core.errors import StintError, UndecodableError
from stint.core.events import AnyEvent, Writer
from stint.core.job import Job
from tests.support import events
from tests.support.events import job_of

NAME, ISSUED = "stint-receipt", "2026-01-03T00:00:00.000Z"
OLD, NEW, OTHER = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()


def with_fields(event: AnyEvent, **fields: object) -> AnyEvent:
    return msgspec.structs.replace(event, **fields)


ASKED = {"by": "ann", "by_entity": "e-1", "by_accessor": "acc", "by_address": "10.9.8.7", "by_nats_user": "UANN"}
SUBMITTED = with_fields(events.submitted(), **ASKED)
STARTED = with_fields(events.started(), payload_sha256="ab" * 32)
LAUNCHED = with_fields(events.launched(), image_id="sha256:1f3b", secrets={"kv/data/db.password": 7})
ERROR = "it\n<failed> \u2028 \U0001f680"
ENDED = with_fields(events.ended("failed", "exit_code", 3), error=ERROR, chunks=2, output_digest="cd" * 32)
ENDS = {
    "ran": (SUBMITTED, STARTED, LAUNCHED, ENDED),
    "lost": (SUBMITTED, STARTED, with_fields(events.ended("unknown", "lost"), output_complete=False)),
    "killed in its queue": (SUBMITTED, events.kill_requested(), events.ended("failed", "killed")),
    "wrote too much": (SUBMITTED, STARTED, LAUNCHED, with_fields(ENDED, output_truncated=True)),
    "rejected": (SUBMITTED, events.rejected()),
}


def public(key: SigningKey) -> bytes:
    return bytes(key.verify_key)


def keys(*versions: SigningKey, name: str = NAME) -> PublicKeys:
    numbered = enumerate(versions, start=1)
    return PublicKeys(name, {number: base64.b64encode(public(key)).decode() for number, key in numbered})


def receipt_of(job: Job, key: SigningKey = OLD, version: int = 1) -> bytes:
    stated = statement(job, KeyName.of(NAME, version, public(key)), ISSUED)
    return document(stated, key.sign(canonical(stated)).signature)


RECEIPT = receipt_of(job_of(*ENDS["ran"]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": {"d": [True, None], "c": ""}}, '{"a":{"c":"","d":[true,null]},"b":1}'),
        # As RFC 8785 has it: only what must be is escaped, in lower case.
        ('\u20ac$\x0f\nA\'B"\\"\x7f\u2028/', '"\u20ac$\\u000f\\nA\'B\\"\\\\\\"\x7f\u2028/"'),
    ],
)
def test_there_is_one_form(value: object, text: str) -> None:
    assert canonical(value) == text.encode()


def test_it_states_who_asked_what_ran_and_how_it_ended() -> None:
    stated = json.loads(RECEIPT)["receipt"]
    assert stated.pop("facts") == [
        {
            "kind": fact.kind,
            "sequence": number,
            "at": f"2026-01-02T03:04:0{number}.123456789Z",
            "who": fact.by,
            "entity": fact.by_entity,
            "accessor": fact.by_accessor,
            "nats_user": fact.by_nats_user,
        }
        for number, fact in enumerate(ENDS["ran"], start=1)
    ]
    assert stated == {
        "format": "stint-receipt/1",
        "key": msgspec.to_builtins(KeyName.of(NAME, 1, public(OLD))),
        "issued": ISSUED,
        "job": "0" * 24,
        "qname": events.QUEUE,
        "asked": {"who": "ann", "entity": "e-1", "accessor": "acc", "nats_user": "UANN", "proven": False},
        "payload_sha256": "ab" * 32,
        "image": {"name": "busybox", "id": "sha256:1f3b"},
        "container_id": "c" * 64,
        "runner": "runner-1",
        "submitted": "2026-01-02T03:04:01.123Z",
        "started": "2026-01-02T03:04:02.123Z",
        "ended": "2026-01-02T03:04:04.123Z",
        "status": "failed",
        "reason": "exit_code",
        "error": ERROR,
        "return_code": 3,
        "output": {"bytes": 0, "chunks": 2, "digest": "cd" * 32, "complete": True, "truncated": False, "masked": 0},
    }
    for hidden in ("10.9.8.7", "kv/data/db", "vault:v1:x"):
        assert hidden.encode() not in RECEIPT


@pytest.mark.parametrize(
    ("signer", "said"),
    [
        (None, "by ann (entity e-1) at "),
        (Writer("ann", "e-1", "acc", ""), "by ann (entity e-1), as the signature of an API proves, at "),
        (Writer("", "", "", "UANN"), "by UANN, as the signature of UANN proves, at "),
    ],
)
def test_people_are_told_whose_signature_proves_who_asked(signer: Writer | None, said: str) -> None:
    submitted = with_fields(events.submitted(), by="ann", by_entity="e-1", by_accessor="acc")
    job = job_of(submitted, events.started(), events.ended())
    stated = statement(job, KeyName.of(NAME, 1, public(OLD)), ISSUED, signer)
    told = list(lines(Receipt(stated, stated.key, b"", b"")))
    assert told[2].startswith(f"asked for   {said}")


def test_a_name_of_a_megabyte_does_not_make_it_larger_than_a_receipt_may_be() -> None:
    receipt = receipt_of(job_of(with_fields(SUBMITTED, by="x" * 10**6), events.rejected()))
    assert check_receipt(receipt, keys(OLD)).statement.asked.who == "x" * 256


@pytest.mark.parametrize("name", ENDS)
def test_each_end_has_a_receipt_that_says_whether_the_output_is_complete(name: str) -> None:
    found = check_receipt(receipt_of(job_of(*ENDS[name])), keys(OLD))
    said = list(lines(found))
    assert said[0].startswith("Genuine: the receipt of job 000000000000000000000000, signed by version 1")
    assert (said[-1] == "The output is not known to be complete.") is (name == "lost")
    assert (said[-1] == "The job wrote more: what was beyond the limit was dropped.") is (name == "wrote too much")


def test_every_changed_byte_is_found() -> None:
    assert check_receipt(RECEIPT, keys(OLD)).signed in RECEIPT
    for place in range(len(RECEIPT)):
        for changed in (RECEIPT[place] ^ 1, RECEIPT[place] ^ 0x20):
            forged = RECEIPT[:place] + bytes([changed]) + RECEIPT[place + 1 :]
            with pytest.raises((UndecodableError, ForgedReceiptError, UnknownKeyError)):
                check_receipt(forged, keys(OLD))
        with pytest.raises((UndecodableError, ForgedReceiptError, UnknownKeyError)):
            check_receipt(RECEIPT[:place] + RECEIPT[place + 1 :], keys(OLD))


def resigned(change: Callable[[dict[str, Any]], None]) -> bytes:
    found = json.loads(RECEIPT)
    change(found["receipt"])
    return document(found["receipt"], base64.b64decode(found["signature"]))


CODE = b'"return_code":3'
NO_RECEIPT = [
    b"", b"null", b"[]", b'"receipt"', b"\xff\xfe", b"[" * 100_000, b" " * (MAX_BYTES + 1), RECEIPT.rstrip(),
    RECEIPT + b"\n", b'{"receipt":{},"signature":""}',
    RECEIPT.decode().encode("utf-16"), json.dumps(json.loads(RECEIPT)).encode(),
    RECEIPT.replace(b'"receipt"', b'"receipt":{},"receipt"'), RECEIPT.replace(CODE, CODE + b',"status":"success"'),
    RECEIPT.replace(CODE, b'"return_code":NaN'), RECEIPT.replace(CODE, b'"return_code":' + b"9" * 5000),
    resigned(lambda stated: stated.update(format="stint-receipt/2")),
    resigned(lambda stated: stated["key"].update(version="1")),
]  # fmt: skip
CHANGED: list[tuple[bytes, type[StintError]]] = [
    (resigned(lambda stated: stated.update(return_code=0)), ForgedReceiptError),
    (resigned(lambda stated: stated.update(more=1)), ForgedReceiptError),
    (resigned(lambda stated: stated["key"].update(version=2)), UnknownKeyError),
]


@pytest.mark.parametrize(("data", "error"), [*((data, UndecodableError) for data in NO_RECEIPT), *CHANGED])
def test_what_is_no_receipt_or_was_changed(data: bytes, error: type[StintError]) -> None:
    with pytest.raises(error):
        check_receipt(data, keys(OLD))


def test_old_receipts_are_good_after_a_rotation_and_another_key_is_named() -> None:
    new = receipt_of(job_of(*ENDS["ran"]), NEW, version=2)
    for data, version in ((RECEIPT, 1), (new, 2)):
        assert check_receipt(data, keys(OLD, NEW)).key.version == version
    for known in (keys(OTHER), keys(OLD, name="another"), PublicKeys(NAME, {1: "no base64"}), PublicKeys(NAME, {})):
        with pytest.raises(UnknownKeyError, match="version 1 of the key stint-receipt"):
            check_receipt(RECEIPT, known)
    # A stranger's own key in the place of ours: what it signs fits only a file of keys that has it.
    forged = receipt_of(job_of(*ENDS["ran"]), OTHER)
    with pytest.raises(UnknownKeyError):
        check_receipt(forged, keys(OLD))


def test_what_is_neither_a_jobs_id_nor_a_file_is_said_before_a_key_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        verify_receipt(tmp_path / "65f0c2a1", None, "text")
    assert capsys.readouterr().err == f"stint: {tmp_path / '65f0c2a1'} cannot be read: No such file or directory.\n"


@pytest.mark.parametrize("data", [b"", b"{}", b'{"name":"x","keys":{"one":"x"}}', b'{"name":"x","keys":[]}'])
def test_what_is_no_file_of_keys(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (receipt := tmp_path / "receipt").write_bytes(RECEIPT)
    (known := tmp_path / "keys").write_bytes(data)
    with pytest.raises(typer.Exit) as ended:
        verify_receipt(receipt, known, "text")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == f"stint: {known} is not what `stint receipt --public-key` prints.\n"
