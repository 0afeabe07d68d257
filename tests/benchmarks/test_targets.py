"""Where the figures should get to."""

from __future__ import annotations

from benchmarks.cells import BACKENDS, DEFAULT, SQLITE, USUAL, UVICORN, Cell
from benchmarks.figures import STEPS, Percentiles
from benchmarks.targets import CALL, EPISODES, START, state
from tests.benchmarks.reports import around, measured


def test_the_usual_table_can_state_every_target() -> None:
    stated = state(EPISODES, dict.fromkeys(DEFAULT, measured()))
    assert [target for target, _ in stated] == list(EPISODES)
    names = {target.name for target in (*EPISODES, *CALL, *START)}
    assert len(names) == len(EPISODES) + len(CALL) + len(START)


def test_a_target_is_stated_where_its_cells_were_measured() -> None:
    for backend, limit in zip(BACKENDS, (1.5, 1.6), strict=True):
        ((target, figure),) = state(EPISODES, {Cell(backend=backend): measured(3.0, 1.5)})
        assert (target.at_most, figure) == (limit, 2.0)
        assert backend in target.name
    ((target, figure),) = state(EPISODES, {Cell(backend="asyncio", server=UVICORN): measured(0.4)})
    assert (target.at_most, figure) == (0.5, 0.4)
    assert state(EPISODES, {}) == state(CALL, {}) == state(START, {}) == []


def test_a_ratio_of_two_cells_is_taken_within_the_rounds() -> None:
    """Where the machine slows down between the rounds, both cells are slower."""
    memory = measured(2.0, rounds_cpu_ms=[1.0, 2.0, 10.0])
    on_disk = measured(2.0, rounds_cpu_ms=[1.5, 3.0, 20.0])
    found = {USUAL: memory, USUAL.on(store=SQLITE): on_disk}
    (figure,) = [figure for target, figure in state(EPISODES, found) if "sqlite" in target.name]
    assert figure == 1.5


def test_many_at_once_are_held_to_what_few_cost_and_to_their_own_median() -> None:
    few, many = Cell(backend="trio"), Cell(backend="trio", concurrency=256)
    latency = dict.fromkeys(STEPS, Percentiles(p50=around(10), p95=around(20), p99=around(20)))
    latency["call"] = Percentiles(p50=around(10), p95=around(20), p99=around(45))
    latency["episode"] = Percentiles(p50=around(1), p95=around(20), p99=around(99))
    found = {few: measured(2.0), many: measured(5.0, latency_ms=latency)}
    figures = [figure for target, figure in state(EPISODES, found) if "256" in target.name]
    assert figures == [2.5, 4.5]
