import pytest

from stint.core.errors import ImageError
from stint_runner.registry.references import (
    Reference,
    all_attempts_failed,
    is_transient,
    matches,
    own_names,
    parse_reference,
    registry_name,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("image", "expected", "pulled"),
    [
        ("busybox", Reference("busybox", "latest"), ("docker.io/library/busybox", "latest")),
        ("busybox:1.36", Reference("busybox", "1.36"), ("docker.io/library/busybox", "1.36")),
        ("user/app", Reference("user/app", "latest"), ("user/app", "latest")),
        ("docker.io/library/a:b", Reference("docker.io/library/a", "b"), ("docker.io/library/a", "b")),
        ("host:5000/app", Reference("host:5000/app", "latest"), ("host:5000/app", "latest")),
        ("host:5000/a/b:1", Reference("host:5000/a/b", "1"), ("host:5000/a/b", "1")),
        ("[::1]:5000/app:1", Reference("[::1]:5000/app", "1"), ("[::1]:5000/app", "1")),
        ("HOST.example/app", Reference("HOST.example/app", "latest"), ("HOST.example/app", "latest")),
        (f"app@{DIGEST}", Reference("app", "", DIGEST), ("docker.io/library/app", DIGEST)),
        (f"h:1/app:t@{DIGEST}", Reference("h:1/app", "t", DIGEST), ("h:1/app", DIGEST)),
        ("a__b/c-d.e:T_a-g.1", Reference("a__b/c-d.e", "T_a-g.1"), ("a__b/c-d.e", "T_a-g.1")),
        ("host:5000", Reference("host", "5000"), ("docker.io/library/host", "5000")),
    ],
)
def test_references(image: str, expected: Reference, pulled: tuple[str, str]) -> None:
    reference = parse_reference(image)
    assert reference == expected
    assert (reference.pull_name, reference.pull_tag) == pulled
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    "image",
    [
        " ", "a b", "Busybox", "a:", ":a", "a:b:c", "a@sha256:12", "a/", "/a", "a//b", "../a", "a/../b", "a:é", "é",
        "a?x=1", "a#x", "a%2e", "a\n", "a:b\n", "https://host/a", f"a@{DIGEST}@{DIGEST}", "a:" + "t" * 129, "n" * 256,
    ],
)  # fmt: skip
def test_what_is_not_a_reference(image: str) -> None:
    with pytest.raises(ImageError, match="invalid reference format"):
        parse_reference(image)


def test_no_image() -> None:
    with pytest.raises(ImageError, match=r"^ContainerImage is empty$"):
        parse_reference("")


@pytest.mark.parametrize(
    ("image", "patterns", "allowed"),
    [
        ("anything/at:all", "*", True),
        ("busybox", "busybox", True),
        ("busybox", "busybox:latest", True),
        ("busybox:1", "busybox", False),
        ("busybox:1", "alpine, busybox:* ", True),
        ("host:5000/team/app:1", "host:5000/team/*", True),
        ("host:5000/team/app:1", "host:5000/other/*", False),
        ("busyboxes", "busybox", False),
        ("busybox", "", False),
        ("evil/busybox", "busybox*", False),
        ("HOST.example/app", "host.example/*", False),
    ],
)
def test_which_images_may_run(image: str, patterns: str, allowed: bool) -> None:
    assert matches(image, patterns) is allowed


@pytest.mark.parametrize(
    "text",
    [
        'Get "https://h/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
        'Get "https://h/v2/": dial tcp 10.0.0.1:443: i/o timeout',
        'Get "https://h/v2/": net/http: TLS handshake timeout',
        'Get "https://h/v2/": context deadline exceeded',
        "received unexpected HTTP status: 503 Service Unavailable",
        "received unexpected HTTP status: 500 Internal Server Error",
        'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
        "read tcp 10.0.0.2:4->10.0.0.1:443: read: connection reset by peer",
        "unexpected EOF",
        "toomanyrequests: You have reached your pull rate limit",
        "the pull timed out",
    ],
)
def test_what_is_tried_again(text: str) -> None:
    assert is_transient(text)


@pytest.mark.parametrize(
    "text",
    [
        'Get "https://h/v2/": dial tcp: lookup h on 10.0.0.53:53: no such host',
        'Get "https://timeout.invalid/v2/": dial tcp: lookup timeout.invalid: no such host',
        "manifest for busybox:none not found: manifest unknown: manifest unknown",
        "pull access denied for x, repository does not exist or may require 'docker login'",
        "unauthorized: authentication required",
        "no matching manifest for linux/s390x in the manifest list entries",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "words that nobody has seen before",
        "",
    ],
)
def test_what_is_final(text: str) -> None:
    assert not is_transient(text)


def test_attempts_are_numbered() -> None:
    assert all_attempts_failed(["a", "b"]) == "All attempts fail:\n#1: a\n#2: b"


@pytest.mark.parametrize(
    ("image", "registry", "listed"),
    [
        ("busybox", "docker.io", "busybox:latest"),
        ("user/app:1", "docker.io", "user/app:1"),
        ("docker.io/busybox", "docker.io", "busybox:latest"),
        ("docker.io/library/busybox:1", "docker.io", "busybox:1"),
        ("index.docker.io/library/busybox", "docker.io", "busybox:latest"),
        ("library/busybox", "docker.io", "busybox:latest"),
        ("library/team/app", "docker.io", "library/team/app:latest"),
        ("localhost/app", "localhost", "localhost/app:latest"),
        ("host:5000/app", "host:5000", "host:5000/app:latest"),
        ("host.example/library/app", "host.example", "host.example/library/app:latest"),
        ("HOST/app", "host", "HOST/app:latest"),
        ("[::1]:5000/app:1", "[::1]:5000", "[::1]:5000/app:1"),
        (f"h:1/app:t@{DIGEST}", "h:1", f"h:1/app@{DIGEST}"),
        (f"busybox@{DIGEST}", "docker.io", f"busybox@{DIGEST}"),
    ],
)
def test_where_an_image_comes_from(image: str, registry: str, listed: str) -> None:
    reference = parse_reference(image)
    assert (reference.registry, reference.listed) == (registry, listed)


@pytest.mark.parametrize(
    ("address", "registry"),
    [
        ("host:5000", "host:5000"),
        ("https://host:5000", "host:5000"),
        ("http://Host.example/v2/", "host.example"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("", ""),
    ],
)
def test_ways_to_write_a_registry(address: str, registry: str) -> None:
    assert registry_name(address) == registry


@pytest.mark.parametrize(
    ("tags", "digests", "ours", "present"),
    [
        (["a:1"], [f"a@{DIGEST}"], ["a:1"], ["a:1"]),
        (["a:1", "b:1"], [f"a@{DIGEST}", f"b@{DIGEST}"], ["a:1", "b:1"], ["a:1", "b:1"]),
        (["a:1", "mine:1"], [f"a@{DIGEST}"], ["a:1"], None),
        (["a:1"], [f"a@{DIGEST}", f"mine@{DIGEST}"], ["a:1"], None),
        ([], [f"a@{DIGEST}"], ["a:1"], [f"a@{DIGEST}"]),
        ([], [f"a@{DIGEST}", f"b@{DIGEST}"], [f"a@{DIGEST}", f"b@{DIGEST}"], [f"a@{DIGEST}", f"b@{DIGEST}"]),
        ([], [], ["a:1"], []),
        (["mine:1"], [], [], None),
    ],
)
def test_whose_names_an_image_has(
    tags: list[str], digests: list[str], ours: list[str], present: list[str] | None
) -> None:
    assert own_names(tags, digests, ours) == present
