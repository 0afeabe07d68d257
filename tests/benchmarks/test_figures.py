"""Figures, and the file that they are kept in."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import Cell
from benchmarks.errors import BenchmarkError
from benchmarks.figures import (
    Report,
    Spread,
    describe_failures,
    percentile,
    read_report,
    write_report,
)
from tests.benchmarks.reports import around, failed, measured, report, result

HUNDRED = [float(number) for number in range(1, 101)]


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [
        (HUNDRED, 0.5, 50.0),
        (HUNDRED, 0.95, 95.0),
        (HUNDRED, 0.99, 99.0),
        (HUNDRED, 1.0, 100.0),
        (HUNDRED, 0.0, 1.0),
        ([15.0, 20.0, 35.0, 40.0, 50.0], 0.3, 20.0),  # Wikipedia's example of nearest rank
        ([15.0, 20.0, 35.0, 40.0, 50.0], 0.4, 20.0),
        ([15.0, 20.0, 35.0, 40.0, 50.0], 0.5, 35.0),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.99, 2.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(
    values: list[float], part: float, expected: float
) -> None:
    assert percentile(values, part) == expected


def test_a_spread_is_the_median_and_the_extremes_in_any_order() -> None:
    values = [5.0, 1.0, 9.0, 3.0]
    random.shuffle(values)
    assert Spread.of(values) == Spread(median=4.0, min=1.0, max=9.0)
    assert Spread.of(iter([2.0])) == Spread(median=2.0, min=2.0, max=2.0)


@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        (around(1, 0.1), around(1.2, 0.1), True),  # they touch
        (around(1, 0.1), around(1.3, 0.1), False),
        (around(1.3, 0.1), around(1, 0.1), False),
        (around(1, 5), around(2), True),
    ],
)
def test_spreads_overlap_where_a_value_may_be_of_both(a: Spread, b: Spread, overlap: bool) -> None:
    assert a.overlaps(b) is overlap


def test_failures_are_described_with_the_most_frequent_first() -> None:
    kinds = {"a": 1, "b": 30, "c": 2, "d": 1, "e": 1, "f": 1, "g": 1}
    assert describe_failures(kinds, 3) == "b (30), c (2), a (1), and 4 kinds more"
    assert describe_failures({"a": 2}) == "a (2)"


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    written = report(
        result(Cell(backend="trio"), measured()), failed(Cell(backend="asyncio"), "b", 1)
    )
    write_report(written, path)
    assert read_report(path) == written
    assert json.loads(path.read_text())["schema_version"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="can't be written: No such file or directory"):
        write_report(report(), tmp_path / "missing" / "report.json")


def damaged(**changed: Any) -> bytes:
    raw = json.loads(report(result(Cell(backend="trio"), measured())).model_dump_json())
    return json.dumps(raw | changed).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", "is not JSON: EOF while parsing"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"schema_version": 1', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is no report of `make bench`"),
        (b'{"many_environments": {}}', "is no report of `make bench`: it has no schema_version"),
        (damaged(schema_version=2), "has schema_version 2, and this is 1: compare it with"),
        (damaged(schema_version=[None]), r"has schema_version \[None\]"),
        (damaged(results=[{}]), r"is damaged: results\.0\.cell: Field required"),
        (damaged(rounds="many"), "is damaged: rounds: Input should be a valid integer"),
        (damaged(seconds=float("inf")), "is damaged: seconds: "),
        (b'{"schema_version": 1}', "is damaged: machine: Field required"),
        (damaged(extra=1), "is damaged: extra: Extra inputs are not permitted"),
    ],
)
def test_a_file_that_is_no_report_is_one_clear_line(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=reason) as caught:
        read_report(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="can't be read: Is a directory"):
        read_report(tmp_path)


def test_the_schema_of_a_report_is_closed() -> None:
    assert Report.model_json_schema()["additionalProperties"] is False
