import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.core.errors import InvalidQueueNameError
from stint.core.subjects import normalise_queue_name
from stint.vault import queue_path, release_path


@pytest.mark.parametrize(
    "name", ["deploys", "team/deploys", "with space", "a.b.c", "\u00fcml\u00e4ut", "a,b", "a?b#c%d", "c++"]
)
def test_an_ordinary_name_stands_in_its_path_as_it_is(name: str) -> None:
    assert queue_path(name) == f"stint/queue/{name}"
    assert release_path(name) == f"stint/release/{name}"


@pytest.mark.parametrize(
    ("name", "place"),
    [("", "=_"), ("a ", "=meqa"), ("a/", "=mexq"), ("*", "=fi"), ("=_", "=hvpq"), ("=meqa", "=hvwwk4lb")],
)
def test_a_name_that_vault_would_read_as_another_is_its_token(name: str, place: str) -> None:
    assert (queue_path(name), release_path(name)) == (f"stint/queue/{place}", f"stint/release/{place}")


@given(st.text(alphabet=st.sampled_from("ab=+*/ ._-{}me\u00fc\u00a0"), max_size=6), st.text(max_size=6))
def test_no_two_names_share_a_path(one: str, other: str) -> None:
    paths = {}
    for name in (one, other, queue_path(one).removeprefix("stint/queue/")):
        try:
            paths[normalise_queue_name(name)] = queue_path(normalise_queue_name(name))
        except InvalidQueueNameError:
            continue
    assert len(set(paths.values())) == len(paths)
