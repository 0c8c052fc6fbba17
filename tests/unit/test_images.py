import pytest

from stint.core.errors import ImageError
from stint_runner.registry import references
from stint_runner.registry.references import Reference, is_transient, matches, own_names, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("image", "expected", "pulled", "registry", "listed"),
    [
        ("busybox", ("busybox", "latest"), ("docker.io/library/busybox", "latest"), "docker.io", "busybox:latest"),
        ("user/app:1", ("user/app", "1"), ("user/app", "1"), "docker.io", "user/app:1"),
        ("docker.io/a", ("docker.io/a", "latest"), ("docker.io/a", "latest"), "docker.io", "a:latest"),
        ("library/a", ("library/a", "latest"), ("library/a", "latest"), "docker.io", "a:latest"),
        ("library/t/a", ("library/t/a", "latest"), ("library/t/a", "latest"), "docker.io", "library/t/a:latest"),
        ("h:5000/a/b:1", ("h:5000/a/b", "1"), ("h:5000/a/b", "1"), "h:5000", "h:5000/a/b:1"),
        ("[::1]:5000/a:1", ("[::1]:5000/a", "1"), ("[::1]:5000/a", "1"), "[::1]:5000", "[::1]:5000/a:1"),
        ("HOST.x/a:b", ("HOST.x/a", "b"), ("HOST.x/a", "b"), "host.x", "HOST.x/a:b"),
        ("HOST/a:b", ("HOST/a", "b"), ("HOST/a", "b"), "host", "HOST/a:b"),
        ("localhost/a:b", ("localhost/a", "b"), ("localhost/a", "b"), "localhost", "localhost/a:b"),
        ("h.x/library/a:b", ("h.x/library/a", "b"), ("h.x/library/a", "b"), "h.x", "h.x/library/a:b"),
        (f"app@{DIGEST}", ("app", "", DIGEST), ("docker.io/library/app", DIGEST), "docker.io", f"app@{DIGEST}"),
        (f"h:1/a:t@{DIGEST}", ("h:1/a", "t", DIGEST), ("h:1/a", DIGEST), "h:1", f"h:1/a@{DIGEST}"),
        ("a__b/c-d.e:T_a-g.1", ("a__b/c-d.e", "T_a-g.1"), ("a__b/c-d.e", "T_a-g.1"), "docker.io", "a__b/c-d.e:T_a-g.1"),
        ("host:5000", ("host", "5000"), ("docker.io/library/host", "5000"), "docker.io", "host:5000"),
    ],
)
def test_references_and_where_their_images_come_from(
    image: str, expected: tuple[str, ...], pulled: tuple[str, str], registry: str, listed: str
) -> None:
    reference = parse_reference(image)
    assert reference == Reference(*expected)
    assert (reference.pull_name, reference.pull_tag) == pulled
    assert (reference.registry, reference.listed) == (registry, listed)
    assert parse_reference(str(reference)) == reference


def test_other_names_of_docker_hub_are_listed_without_them() -> None:
    for name in ("docker.io/library/busybox", "index.docker.io/library/busybox"):
        assert (parse_reference(name).registry, parse_reference(name).listed) == ("docker.io", "busybox:latest")


def test_a_name_of_megabytes_is_not_even_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would take seconds, in which a runner renews no lease."""
    monkeypatch.setattr(references, "_REFERENCE", None)
    with pytest.raises(ImageError, match="invalid reference format"):
        parse_reference("a" * 20_000_000)


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


TRANSIENT = [
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
]
FINAL = [
    'Get "https://h/v2/": dial tcp: lookup h on 10.0.0.53:53: no such host',
    'Get "https://timeout.invalid/v2/": dial tcp: lookup timeout.invalid: no such host',
    "manifest for busybox:none not found: manifest unknown: manifest unknown",
    "pull access denied for x, repository does not exist or may require 'docker login'",
    "unauthorized: authentication required",
    "no matching manifest for linux/s390x in the manifest list entries",
    "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    "words that nobody has seen before",
    "",
]


@pytest.mark.parametrize(("text", "again"), [*((text, True) for text in TRANSIENT), *((text, False) for text in FINAL)])
def test_which_pulls_are_tried_again(text: str, again: bool) -> None:
    assert is_transient(text) is again


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
def test_whose_an_image_is(tags: list[str], digests: list[str], ours: list[str], present: list[str] | None) -> None:
    assert own_names(tags, digests, ours) == present
