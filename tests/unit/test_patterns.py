"""Which queues a runner serves."""

import pytest

from stint.core.names.ids import queue_token
from stint.core.names.patterns import QueuePatterns


@pytest.mark.parametrize(
    ("text", "served", "others"),
    [
        ("", ["", "a", "net-a"], []),
        ("deploys, NET-*", ["deploys", "net-", "net-a"], ["", "deploys2", "anet-a"]),
        ("*", ["", "a"], []),
        ("a?,[bc]1", ["ab", "b1", "c1"], ["a", "d1"]),
        ("[b]*[,c]]", ["b[", "ba[", "c]]"], ["b", "a["]),
        ("*.prod,\u00fcml\u00c4ut", ["x.prod", "\u00fcml\u00e4ut"], ["prod"]),
    ],
)
def test_patterns_are_those_of_a_shell_in_lower_case(text: str, served: list[str], others: list[str]) -> None:
    patterns = QueuePatterns.parse(text)
    for qname in served + others:
        assert patterns.serves(qname) is (qname in served)
        assert patterns.serves_token(queue_token(qname)) is (qname in served)


def test_a_token_without_a_name_is_left_to_runners_for_all_queues() -> None:
    assert QueuePatterns.parse("").serves_token("MF")
    assert not QueuePatterns.parse("*").serves_token("MF")


def test_what_names_single_queues_does_not_depend_on_its_order() -> None:
    assert QueuePatterns.parse(" b,a ,b").names == ("a", "b") == QueuePatterns.parse("a,b").names
    assert QueuePatterns.parse("a,b*").names is None
    assert QueuePatterns.parse("").names is None
