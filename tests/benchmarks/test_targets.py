"""Where the figures should get to."""

from __future__ import annotations

from benchmarks.cells import BACKENDS, DEFAULT, Cell
from benchmarks.figures import STEPS, Percentiles
from benchmarks.targets import TARGETS, state
from tests.benchmarks.reports import around, measured


def test_the_usual_table_can_state_every_target() -> None:
    stated = state(dict.fromkeys(DEFAULT, measured()))
    assert [target for target, _ in stated] == list(TARGETS)
    assert len({target.name for target in TARGETS}) == len(TARGETS)


def test_a_target_is_stated_where_its_cells_were_measured() -> None:
    for backend, limit in zip(BACKENDS, (1.5, 1.6), strict=True):
        ((target, figure),) = state({Cell(backend=backend): measured(3.0, 1.5)})
        assert (target.at_most, figure) == (limit, 2.0)
        assert backend in target.name
    assert state({}) == []


def test_many_at_once_are_held_to_what_few_cost_and_to_their_own_median() -> None:
    few, many = Cell(backend="trio"), Cell(backend="trio", concurrency=256)
    latency = dict.fromkeys(STEPS, Percentiles(p50=around(10), p95=around(20), p99=around(20)))
    latency["call"] = Percentiles(p50=around(10), p95=around(20), p99=around(45))
    latency["episode"] = Percentiles(p50=around(1), p95=around(20), p99=around(99))
    found = {few: measured(2.0), many: measured(5.0, latency_ms=latency)}
    figures = [figure for target, figure in state(found) if "256" in target.name]
    assert figures == [2.5, 4.5]
