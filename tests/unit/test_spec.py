import io
import tarfile

import pytest

from stint.core.errors import JobFailedError
from stint.core.job import Job, State
from stint.core.submission.limits import Limits
from stint.core.submission.payload import JobPayload
from stint.process.settings import RunnerSettings
from stint_runner.engine.port import ContainerSpec
from stint_runner.inputs.content import Manifest
from stint_runner.inputs.files import Member, overlay, passwd_member
from stint_runner.inputs.spec import (
    MAX_SECRET_REFS,
    container_image,
    exposes_token,
    secret_refs,
    spec_for,
    with_token,
)
from tests.unit.test_lease import FakeDelivery

JOB = Job(job_id="0" * 24, token="me", state=State.QUEUED, sequence=1, facts={})
LABELS = {
    "stint.job": "0" * 24, "stint.queue": "me", "stint.runner": "r1",
    "stint.ack": "ack", "stint.origin": "consumer", "stint.timeout": "0.0",
}  # fmt: skip


def made(payload: JobPayload, **settings: object) -> ContainerSpec:
    given = RunnerSettings.model_construct(None, **{"runner_id": "r1", "vault_addr": "https://vault", **settings})
    return spec_for(given, JOB, FakeDelivery(), payload, image="app:1", seal_key="key")


def test_labels() -> None:
    """Those of a time-out, of masked secrets and of a read-only root are for a later runner."""
    marks = {"stint.timeout": "90.5", "stint.mask-secrets": "key", "stint.read-only": "true"}
    assert made(JobPayload(timeout=90.5, mask_secrets=True, read_only=True)).labels == LABELS | marks


def test_a_whole_payload() -> None:
    payload = JobPayload(
        entrypoint=("sh",), run=("-c", "true"), working_directory="/w", env_vars=("A=1", "B", "C=x=y"), tty=True,
        timeout=60, cpus=0.5, memory="512m", pids=100,
    )  # fmt: skip
    spec = made(payload, vault_cacert="/etc/ca.pem", job_network="net", job_runtime="crun")
    assert spec == ContainerSpec(
        image="app:1", entrypoint=("sh",), command=("-c", "true"), working_directory="/w", tty=True,
        env=("A=1", "B", "C=x=y", "VAULT_ADDR=https://vault", "VAULT_CACERT=/etc/ca.pem"),
        labels=LABELS | {"stint.timeout": "60.0"}, network="net", runtime="crun",
        binds={"/etc/ca.pem": "/etc/ca.pem"}, limits=Limits(timeout=60, cpus=0.5, memory=2**29, pids=100),
    )  # fmt: skip


def test_an_empty_payload() -> None:
    spec = made(JobPayload(), vault_external_addr="https://outside")
    assert spec == ContainerSpec(
        image="app:1", env=("VAULT_ADDR=https://outside", "VAULT_CACERT="), labels=LABELS, limits=Limits(pids=4096)
    )


@pytest.mark.parametrize(
    ("asked", "compat", "exposed"), [(False, "", False), (True, "", True), (False, "gostint", True)]
)
def test_the_token_is_passed_only_on_request(asked: bool, compat: str, exposed: bool) -> None:
    payload = JobPayload(expose_vault_token=asked, env_vars=("VAULT_TOKEN=mine",))
    spec = made(payload, compat=compat)
    assert spec.env[0] == "VAULT_TOKEN=mine"
    assert with_token(spec, "hidden").env == (*spec.env, "VAULT_TOKEN=hidden"), "the last of a name wins"
    assert exposes_token(payload, compat=bool(compat)) is exposed


@pytest.mark.parametrize("compat", ["", "gostint"])
def test_what_a_job_asks_for_counts_in_compat_too(compat: str) -> None:
    spec = made(JobPayload(read_only=True, pids=7), compat=compat)
    assert (spec.read_only, spec.limits, spec.hardened) == (True, Limits(pids=7), not compat)


@pytest.mark.parametrize(
    "payload",
    [
        JobPayload(env_vars=("A=hid\0den",)),
        JobPayload(env_vars=("=hidden",)),
        JobPayload(env_vars=("",)),
        JobPayload(run=("sh", "hid\0den")),
        JobPayload(entrypoint=("hid\0den",)),
        JobPayload(working_directory="/hid\0den"),
    ],
)
def test_what_no_process_can_be_given(payload: JobPayload) -> None:
    with pytest.raises(JobFailedError, match=r"^Incorrect value in ") as caught:
        made(payload)
    assert caught.value.reason == "payload"
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("image", ["sha256:9", "sha256:" + "a" * 64])
def test_an_image_s_id_is_no_name(image: str) -> None:
    """Docker takes any beginning of an id: one could be guessed, and be that of another job's files."""
    for payload, content in ((JobPayload(container_image=image), Manifest()), (JobPayload(), Manifest(image))):
        with pytest.raises(JobFailedError) as caught:
            container_image(payload, content)
        assert caught.value.reason == "image"
    assert container_image(JobPayload(container_image=f"app@sha256:{'a' * 64}"), Manifest()).startswith("app@")


def test_all_sources_together_have_a_limit_of_references() -> None:
    """It counts before any is read: a hundred thousand hold up every other job of the runner."""
    most = [f"v{number}@kv/{number}.k" for number in range(MAX_SECRET_REFS - 3)]
    content, image = Manifest(secret_refs=tuple(most)), Manifest(secret_refs=("image@kv/i.k",))
    payload = JobPayload(secret_refs=("payload@kv/p.k",))
    assert len(secret_refs(payload, content, image, ["request@kv/r.k"])) == MAX_SECRET_REFS
    with pytest.raises(JobFailedError, match="The job has 1001 secret references; at most 1000 are") as caught:
        secret_refs(payload, content, image, ["request@kv/r.k", "no reference"])
    assert caught.value.reason == "secrets"


ROOT = b"root:x:0:0:root:/root:/bin/sh\n"
OURS = b"gostint:x:2001:2001:gostint:/tmp:/bin/sh\n"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (None, OURS),
        (b"", OURS),
        (ROOT, ROOT + OURS),
        (ROOT.rstrip(b"\n"), ROOT + OURS),
        (ROOT + b"\n", ROOT + b"\n" + OURS),
        (ROOT + OURS, ROOT + OURS),
        (ROOT + b"app:x:2001:2001::/app:/bin/sh\n", ROOT + OURS + b"app:x:2001:2001::/app:/bin/sh\n"),
        (b"gostint:x:7:7::/:/bin/sh\n" + ROOT, OURS + b"gostint:x:7:7::/:/bin/sh\n" + ROOT),
        (b"app:x:2001:1::/:\n" + OURS, OURS + b"app:x:2001:1::/:\n" + OURS),
        (b"a:x:20010:2001::/:\n", b"a:x:20010:2001::/:\n" + OURS),
        (b"\xff\r:x:1:1::/:\nshort\n", b"\xff\r:x:1:1::/:\nshort\n" + OURS),
    ],
)
def test_the_job_user_is_found_first(image: bytes | None, expected: bytes) -> None:
    assert passwd_member(image).data == passwd_member(expected).data == expected


def test_the_file_is_root_s_and_read_only() -> None:
    member = passwd_member(ROOT)
    assert "root" not in repr(member)
    assert (member.path, member.mode, member.owner, member.data) == ("/etc/passwd", 0o444, 0, ROOT + OURS)


def test_an_overlay_is_a_plain_tar_dated_1970() -> None:
    members = [
        Member(path="/etc/passwd", data=b"one", mode=0o444, owner=0),
        Member(path="secrets.yml", data=b"", mode=0o400, owner=2001),
    ]
    with tarfile.open(fileobj=io.BytesIO(overlay(*members)), mode="r:") as tar:
        found = [(m.name, m.mode, m.uid, m.gid, m.mtime, m.size, m.type) for m in tar]
    assert found == [
        ("etc/passwd", 0o444, 0, 0, 0, 3, tarfile.REGTYPE),
        ("secrets.yml", 0o400, 2001, 2001, 0, 0, tarfile.REGTYPE),
    ]
