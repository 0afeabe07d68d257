"""What is printed of a report that was made by hand."""

from __future__ import annotations

import pytest

from benchmarks.cells import Cell
from benchmarks.figures import Spread
from benchmarks.tables import print_report, spread
from tests.benchmarks.reports import MACHINE, around, failed, measured, report, result

TRIO = Cell(backend="trio")


def test_a_report_has_its_machine_costs_latencies_and_targets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_report(report(result(TRIO, measured(3.0, 1.5)), failed(Cell(backend="asyncio"), "x", 2)))
    where, costs, latencies, targets = capsys.readouterr().out.split("\n\n")
    assert "revision abc" in where
    assert "A processor, 2 cores, Linux 6.1 x86_64, CPython 3.11.7; load average 0.1" in where
    own, other = (line.split() for line in costs.splitlines()[2:])
    name = ["hypercorn", "trio", "2025-06-18", "16", "2"]
    figures = ["500", "3.00", "(2.90-3.10)", "1.50", "2.00", "(1.90-2.10)", "80", "0.20", "10%"]
    assert own == [*name, *figures]
    assert other[5:] == ["FAILED", *["-"] * 6]
    assert latencies.splitlines()[2].split() == [*name, *4 * ["8.0", "/", "9.0", "/", "10.0"]]
    assert targets.splitlines()[2].split()[-4:] == ["1.6", "2.00", "not", "met"]
    assert "FAILED: asyncio 2025-06-18 16 at once, 2 KB: 2 failures: x (2)" in targets
    assert "warning" not in targets


def test_a_machine_that_did_other_things_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    machine = MACHINE.model_copy(update={"load_average": 4.5})
    print_report(report(result(TRIO, measured()), machine=machine))
    assert "warning: the load average was 4.5 before the start" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (around(1.234, 0.1), "1.23 (1.13-1.33)"),
        (around(12.34, 0.1), "12.3 (12.2-12.4)"),
        (around(1234.5, 20), "1234 (1214-1254)"),
        (around(1.234, 0.001), "1.23"),
    ],
)
def test_a_figure_has_the_digits_that_mean_something(value: Spread, shown: str) -> None:
    assert spread(value) == shown
