import msgspec
import pytest

from stint.core.errors import TooLargeError, UndecodableError
from stint.core.submission.jsontext import Scanner
from stint.core.submission.payload import MAX_CONTENT, JobPayload, merge, parse_payload
from stint_api.submit.body import MAX_BYTES, check_content, parse_submission

FULL = JobPayload(
    qname="a", container_image="busybox", image_pull_policy="Always", content="targz,x", entrypoint=("env",),
    run=("true",), working_directory="/srv", env_vars=("A=1",), secret_refs=("P@kv/data/p.x",),
    secret_file_type="json", cont_on_warnings=True, tty=True, expose_vault_token=True, timeout=1.5, mask_secrets=True,
    on_lost="hold", cpus=0.5, memory="512m", pids=7, network="none", read_only=True,
)  # fmt: skip


def test_the_request_fills_what_the_payload_leaves_unset() -> None:
    assert all(getattr(FULL, name) for name in JobPayload.__struct_fields__)
    assert merge(JobPayload(), FULL) == msgspec.structs.replace(FULL, qname="", secret_refs=())


def test_the_payload_wins_and_lists_are_taken_whole() -> None:
    assert merge(FULL, JobPayload()) == FULL
    other = JobPayload(
        qname="b", container_image="evil", entrypoint=("a", "b"), run=("c",), env_vars=("B=2",), memory=1, timeout=9,
        secret_refs=("B@kv/b.x",),
    )  # fmt: skip
    assert merge(FULL, other) == FULL


@pytest.mark.parametrize("flag", ["tty", "cont_on_warnings", "mask_secrets", "read_only"])
def test_a_flag_is_set_if_either_sets_it(flag: str) -> None:
    on, off = msgspec.convert({flag: True}, JobPayload), JobPayload()
    assert [getattr(merge(*pair), flag) for pair in ((on, off), (off, on), (on, on), (off, off))] == [1, 1, 1, 0]


def test_a_payload_is_an_object_of_known_shape() -> None:
    assert parse_payload(b'{"TTY": true, "timeout": 2, "memory": "1g", "status": "success", "run": null}') == (
        JobPayload(tty=True, timeout=2.0, memory="1g")
    )
    for bad in (b'{"memory": 1.5}', b'{"timeout": "1"}', b'{"pids": true}', b'{"read_only": 1}'):
        with pytest.raises(UndecodableError):
            parse_payload(bad)


def test_content_is_measured_without_being_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 4 * MAX_CONTENT // 3 < MAX_BYTES
    monkeypatch.setattr("stint_api.submit.body.MAX_CONTENT", most := 2**20)
    for size in (most - 1, most):
        encoded = "A" * (4 * (size // 3)) + ("", "AA==", "AAA=")[size % 3]
        lines = "\r\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76))
        for text in (encoded, lines):
            check_content(f"targz,{text}")
    with pytest.raises(TooLargeError, match="1 MiB"):
        check_content("targz," + "A" * (4 * (most // 3) + 4))
    check_content("")


SUBMISSION = b'{"qname": "Deploys", "wrap_secret_id": "w", "run": ["a", "b"], "timeout": 2}'


def test_a_digest_covers_what_counts() -> None:
    digest = parse_submission(SUBMISSION).digest
    same = [
        b'{"timeout": 2.0, "run": ["a", "b"], "wrap_secret_id": "w", "qname": "deploys"}',
        b'{"QNAME": "DEPLOYS", "Wrap_Secret_Id": "w", "Run": ["a", "b"], "timeout": 2, "unknown": 7, "tty": false}',
        Scanner().feed(SUBMISSION + b"trailing"),
    ]
    assert {parse_submission(body).digest for body in same} == {digest}
    changes = {
        b"Deploys": b"other", b'"w"': b'"v"', b'"a", "b"': b'"ab"', b"2}": b"3}",
        b"timeout": b'cubby_token": "t", "timeout', b'"run"': b'"tty": true, "run"',
    }  # fmt: skip
    for before, after in changes.items():
        assert parse_submission(SUBMISSION.replace(before, after)).digest != digest
