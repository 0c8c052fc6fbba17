"""What a job's payload may be, and what the runner asks Vault about a job."""

import asyncio
import tracemalloc
from typing import Any

import msgspec
import pytest

from stint.core.errors import JobFailedError, TooLargeError
from stint.core.submission.jsontext import Scanner
from stint.core.submission.payload import MAX_CONTENT, JobPayload, merge, parse_payload
from stint.vault import AppRoleSession, SecretData, Vault
from stint_api.submit.body import MAX_BYTES, check_content, parse_submission
from stint_runner.inputs.opening import READS, Opener
from stint_runner.inputs.payload import NOT_MERGED, open_payload
from stint_runner.inputs.secretfile import SecretRef
from tests.support.events import utc_now

FULL = JobPayload(
    qname="a", container_image="busybox", image_pull_policy="Always", content="targz,x", entrypoint=("env",),
    run=("true",), working_directory="/srv", env_vars=("A=1",), secret_refs=("P@kv/data/p.x",),
    secret_file_type="json", cont_on_warnings=True, tty=True, expose_vault_token=True, timeout=1.5, mask_secrets=True,
    on_lost="hold", cpus=0.5, memory="512m", pids=7, network="none", read_only=True,
)  # fmt: skip


def test_the_request_fills_what_the_payload_leaves_unset_and_lists_are_taken_whole() -> None:
    assert [name for name in JobPayload.__struct_fields__ if not getattr(FULL, name)] == [], "give FULL a value for it"
    assert merge(JobPayload(), FULL) == msgspec.structs.replace(FULL, qname="", secret_refs=())
    assert merge(FULL, JobPayload()) == FULL
    other = JobPayload(
        qname="b", container_image="evil", entrypoint=("a", "b"), run=("c",), env_vars=("B=2",), memory=1, timeout=9,
        secret_refs=("B@kv/b.x",),
    )  # fmt: skip
    assert merge(FULL, other) == FULL


def test_a_payload_is_an_object_of_known_shape() -> None:
    assert parse_payload(b'{"TTY": true, "timeout": 2, "memory": "1g", "status": "success", "run": null}') == (
        JobPayload(tty=True, timeout=2.0, memory="1g")
    )


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


class Counting(Vault):
    """Counts the reads that it has been asked for, and how many there were at a time."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.asked = self.now = self.most = 0

    async def read(self, token: str, path: str) -> SecretData | None:
        del token
        self.asked, self.now = self.asked + 1, self.now + 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return SecretData({"k": path}) if path.startswith("kv") else None


async def _secrets(vault: Counting, *paths: str) -> dict[str, Any]:
    opener = Opener(vault=vault, session=AppRoleSession(vault, "", ""), role="", role_id="", now=utc_now)
    refs = [SecretRef(f"v{number}", path, "k") for number, path in enumerate(paths)]
    values, _ = await opener.secrets(refs, "token", cont_on_warnings=False)
    return dict(values)


async def test_a_job_with_many_paths_has_few_reads_at_a_time() -> None:
    vault, paths = Counting(), [f"kv/{number}" for number in range(3 * READS + 1)]
    assert list((await _secrets(vault, *paths, *paths)).values()) == [*paths, *paths]
    assert (vault.asked, vault.most) == (len(paths), READS)


async def test_after_a_path_that_is_not_there_no_further_ones_are_read() -> None:
    vault = Counting()
    with pytest.raises(JobFailedError, match="secret first from vault"):
        await _secrets(vault, "first", "second", *(f"kv/{number}" for number in range(READS)))
    assert vault.asked == READS


@pytest.mark.parametrize("compat", [False, True])
async def test_a_payload_of_many_lines_is_refused_without_being_taken_apart(*, compat: bool) -> None:
    async def decrypt(_line: str) -> bytes:
        raise AssertionError

    sealed = b"x" + b"\n" * 2_000_000 + b"x"
    tracemalloc.start()
    try:
        with pytest.raises(JobFailedError, match=NOT_MERGED):
            await open_payload(sealed, "q", decrypt, compat=compat)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(sealed)
    finally:
        tracemalloc.stop()
