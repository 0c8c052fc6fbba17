import json
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stint.core.errors import JobFailedError
from stint_runner.engine.docker import DockerEngine
from stint_runner.engine.port import MAX_FILE
from stint_runner.inputs.secretfile import (
    TOO_LARGE,
    VALUE,
    Seal,
    SecretRef,
    new_key,
    parse_ref,
    parse_refs,
    pick,
    read_values,
    recorded,
    render,
    secrets_member,
    version_of,
)

HEAD = "---\n# gostint vault secrets injected:\n"
AWKWARD = "\n\r\t \x85\u2028\ufeff\x00a:#-?|>'\"%@&*!{}[],"
SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | st.text() | st.text(AWKWARD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PASSWORD@kv/data/demo.password", SecretRef("PASSWORD", "kv/data/demo", "password")),
        ("a_1@secret/my-app/x_y.key-1", SecretRef("a_1", "secret/my-app/x_y", "key-1")),
        ("a@/secret//b/.c", SecretRef("a", "secret/b", "c")),
        ("a@kv/data/sys/b.c", SecretRef("a", "kv/data/sys/b", "c")),
        ("a@authors.c", SecretRef("a", "authors", "c")),
    ],
)
def test_references(text: str, expected: SecretRef) -> None:
    assert parse_ref(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a@b", "@b.c", "a@.c", "a@/.c", "a@b.", "a@b.c.d", "a@b.c\n", "\na@b.c", " a@b.c", "a@b c.d",
        "a b@c.d",
        "a@../sys/b.c", "a@b/../sys/c.d", "a@b%2fc.d", "a@b?c.d", "a@b#c.d", "ä@b.c", "a@ä.c", "a@b.ä", "a@b.c extra",
        "a@b@c.d", "a@kv/data/x.y z",
    ],
)  # fmt: skip
def test_what_is_not_a_reference(text: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        parse_ref(text)
    assert str(caught.value) == f"Secretref is unparseable: {text}"
    assert (caught.value.reason, caught.value.status) == ("secrets", "failed")


def test_the_last_of_a_variable_wins_and_all_are_checked() -> None:
    assert parse_refs(["a@x/y.1", "b@x/y.2", "a@z.3"]) == [SecretRef("a", "z", "3"), SecretRef("b", "x/y", "2")]
    with pytest.raises(JobFailedError, match="unparseable: a@nothing"):
        parse_refs(["a@nothing", "a@x.y"])


REF = SecretRef("a", "kv/x", "k")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"k": "v1"}, "v1"),
        ({"data": {"k": "v2"}, "metadata": {}}, "v2"),
        ({"data": {"k": "v2"}, "k": "v1"}, "v2"),
        ({"data": None, "k": "v1"}, "v1"),
        ({"data": "text", "k": "v1"}, "v1"),
        ({"k": None}, None),
        ({"k": {"nested": [1]}}, {"nested": [1]}),
    ],
)
def test_pick(data: dict[str, Any], value: Any) -> None:
    assert pick(REF, data) == value


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "No data returned from vault path kv/x.k"),
        ({}, "Failed retrieving from vault path kv/x.k"),
        ({"other": "hidden"}, "Failed retrieving from vault path kv/x.k"),
        ({"data": {"other": "hidden"}, "k": "v1"}, "Failed retrieving from vault path kv/x.k"),
        ({"data": None, "metadata": {"deletion_time": "now"}}, "Failed retrieving from vault path kv/x.k"),
    ],
)
def test_nothing_to_pick(data: dict[str, Any] | None, sentence: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        pick(REF, data)
    assert (str(caught.value), caught.value.reason) == (sentence, "secrets")


def test_the_file_in_either_format() -> None:
    values = {"b": "two", "a": 1, "c": {"x": [True, None]}}
    wanted = (HEAD + "a: 1\nb: two\nc:\n  x:\n  - true\n  - null\n").encode()
    assert render(values, "") == ("/secrets.yml", wanted)
    assert render(values, "json") == ("/secrets.json", b'{"a": 1, "b": "two", "c": {"x": [true, null]}}')
    assert (render({}, "yaml")[1].decode(), render({}, "json")[1]) == (HEAD + "{}\n", b"{}")


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "12", "1.5", ".5", "0x1F", "yes", "null", "~", "on", "2020-01-01", "=", ""]
)
def test_text_stays_text_for_any_reader(text: str) -> None:
    line = render({"a": text}, "yaml")[1].decode().removeprefix(HEAD)
    assert line in {f"a: '{text}'\n", f'a: "{text}"\n'}


def test_values_stay_on_their_line_shared_ones_are_written_twice_and_lone_surrogates_escaped() -> None:
    long, shared = "word " * 100 + "end", ["x"]
    assert render({"a": long}, "yaml")[1].decode() == f"{HEAD}a: {long}\n"
    assert render({"a": "one\ntwo\n"}, "yaml")[1].decode() == f"{HEAD}a: |\n  one\n  two\n"
    assert b"&" not in render({"a": shared, "b": shared}, "yaml")[1]
    assert b"ud800" in render({"a": "\ud800"}, "json")[1]
    assert b"uD800" in render({"a": "\ud800"}, "yaml")[1]


def deep(value: object, levels: int = 100) -> object:
    for _ in range(levels):
        value = [value]
    return value


SHARED = "x" * 60_000


@pytest.mark.parametrize("file_type", ["yaml", "json"])
@pytest.mark.parametrize(
    "values",
    [
        {"A": "x" * MAX_FILE},
        {f"A{number}": SHARED for number in range(1000)},
        {"A": [1] * (MAX_FILE // VALUE)},
        {"A": {"b": {str(number): None for number in range(MAX_FILE // VALUE)}}},
        {"A" * MAX_FILE: ""},
    ],
    ids=["text", "shared", "list", "object", "name"],
)
def test_more_than_can_be_read_back_is_not_written(values: dict[str, Any], file_type: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        render(values, file_type)
    assert (caught.value.sentence, caught.value.reason) == (TOO_LARGE, "secrets")


@pytest.mark.parametrize("value", [[1] * 10_000, "a\n" * 10_000], ids=["list", "lines"])
def test_yaml_that_grows_by_its_indentation_is_not_written(value: object) -> None:
    assert len(render({"A": deep(value)}, "json")[1]) < MAX_FILE
    with pytest.raises(JobFailedError, match="with 100 counted"):
        render({"A": deep(value)}, "yaml")


@pytest.mark.parametrize("file_type", ["yaml", "json"])
def test_many_variables_may_name_a_long_secret(file_type: str) -> None:
    data = render({f"A{number}": SHARED for number in range(17)}, file_type)[1]
    assert 17 * len(SHARED) < len(data) < MAX_FILE


@settings(max_examples=50)
@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_]+", fullmatch=True), JSON, max_size=5))
def test_every_value_comes_back(values: dict[str, Any]) -> None:
    assert json.loads(render(values, "json")[1]) == values
    text = render(values, "yaml")[1]
    assert text.startswith(HEAD.encode())
    assert yaml.safe_load(text) == values


class Files(DockerEngine):
    def __init__(self, **files: bytes) -> None:
        super().__init__()
        self._files = files

    async def read_file(self, container_id: str, path: str) -> bytes | None:
        del container_id
        return self._files.get(path.removeprefix("/secrets."))


SECRETS: dict[str, Any] = {"P": "correct horse", "N": 7, "LINES": "a\nb\n"}


@pytest.mark.parametrize("file_type", ["yaml", "json"])
async def test_the_values_are_read_back_from_the_file_that_was_written(file_type: str) -> None:
    member = secrets_member(SECRETS, file_type)
    seal = Seal.of(member, new_key())
    files = {"yml": b"P: planted\n", "json": b'{"P": "planted"}'}
    engine = Files(**{**files, member.path.removeprefix("/secrets."): member.data})
    assert sorted(map(str, await read_values(engine, "c", seal))) == sorted(map(str, SECRETS.values()))


@pytest.mark.parametrize(
    "files", [{}, {"yml": b"P: other\n"}, {"yml": b"a: &x [*x]\n"}, {"json": b'{"P": "correct horse"}'}], ids=str
)
async def test_a_file_that_the_job_changed_is_not_read(files: dict[str, bytes]) -> None:
    member = secrets_member(SECRETS, "")
    with pytest.raises(JobFailedError):
        await read_values(Files(**files), "c", Seal.of(member, new_key()))
    with pytest.raises(JobFailedError):  # without a digest no file is
        await read_values(Files(yml=member.data), "c", Seal(new_key()))


@pytest.mark.parametrize(("file_type", "levels"), [("yaml", 500), ("json", 100_000)])
def test_a_secret_with_too_many_levels_is_said_to_be_one(file_type: str, levels: int) -> None:
    """Vault takes some hundred."""
    with pytest.raises(JobFailedError, match=r"^A secret has too many levels\.$") as caught:
        render({"P": deep("correct horse", levels)}, file_type)
    assert caught.value.reason == "secrets"


def test_a_digest_tells_nothing_without_its_key() -> None:
    member = secrets_member({"PIN": 1234}, "")
    assert len({Seal.of(member, new_key()).digest for _ in range(3)}) == 3
    key = new_key()
    moved = msgspec.structs.replace(member, path="/secrets.json")
    assert Seal.of(member, key) == Seal.of(member, key) != Seal.of(moved, key)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        *(({"data": {"a": 1}, "metadata": {"version": good}}, good) for good in (7, 2**63 - 1)),
        *(({"data": {}, "metadata": {"version": forged}}, None) for forged in (-1, 0, 2**63, True, 1.0, "7")),
        ({"data": {}, "metadata": "none"}, None),
        ({"data": {}, "metadata": {}}, None),
        ({"data": "not nested", "metadata": {"version": 7}}, None),
        ({"a": 1}, None),
        (None, None),
    ],
)
def test_only_kv_version_2_says_a_version(answer: dict[str, Any] | None, version: int | None) -> None:
    assert version_of(answer) == version


def test_an_event_names_secrets_up_to_a_limit_and_counts_the_others() -> None:
    many = {f"kv/data/{number}.key": number for number in range(150)}
    assert recorded(many) == {"secrets": dict(list(many.items())[:100]), "secrets_left_out": 50}
    long = {f"kv/{'x' * 10_000}.a": 1, f"kv/{'y' * 10_000}.b": 2, "kv/z.c": None}
    assert recorded(long) == {"secrets": {f"kv/{'x' * 10_000}.a": 1, "kv/z.c": None}, "secrets_left_out": 1}
    assert recorded({}) == {"secrets": {}, "secrets_left_out": 0}
