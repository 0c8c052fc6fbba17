import inspect
from importlib import import_module

import pytest
from benchmarks.__main__ import GROUPS
from benchmarks.document import DOCUMENT, Record, Run, generated, model, read, table
from benchmarks.measure import Goal, Measured, Row, sized


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_can_be_run(group: str) -> None:
    assert inspect.iscoroutinefunction(import_module(f"benchmarks.{group}").rows)


@pytest.mark.parametrize("record", Record)
def test_recorded_rows_have_names_of_their_own(record: Record) -> None:
    names = [row.name for row in read(record.path).rows]
    assert len(names) == len(set(names))


def test_the_document_is_what_the_recorded_runs_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == generated()


def test_a_table_shows_both_runs() -> None:
    beside = Measured("bare", "ms", [4.0])
    before = Row("a job", Measured("Stint", "ms", [8.0]), beside)
    after = Row("a job", Measured("Stint", "ms", [2.0, 3.0, 4.0]), beside, [Goal(1), Goal(1, unit="ms")])
    gone = Row("gone", Measured("Stint", "s", [1.0]))
    lines = table([before, gone], [after]).splitlines()
    assert lines[2] == "| a job | 8 ms | 2.00x | 3 ms (2 to 4) | bare: 4 ms | 0.75x | ≤ 1x ✓, ≤ 1 ms missed |"
    assert lines[3] == "| gone | 1 s |  |  |  |  |  |"


def test_a_run_replaces_whole_groups_of_the_same_machine() -> None:
    row = Row("a", Measured("Stint", "ms", [1.0]))
    run = Run("here", {"api": [row], "peers": "No Redis."})
    assert run.rows == [row]
    assert run.updated(Run("here", {"peers": [row]})) == Run("here", {"api": [row], "peers": [row]})
    assert run.updated(Run("there")) == Run("there")


def test_the_model_is_a_line_through_two_sizes() -> None:
    rows = [sized("memory of API", "MB", [60 + count / 1000], count, "kept jobs") for count in (10_000, 100_000)]
    (line,) = model(Run("here", {"kept": rows})).splitlines()[2:]
    assert line.endswith("| 0.001 | 1,000,000 kept jobs: 1,000 |")
