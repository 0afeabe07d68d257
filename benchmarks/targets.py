"""Where the figures should get to. None of them fails a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.cells import Cell
from benchmarks.figures import Measured

Found = Mapping[Cell, Measured]
REQUESTS = ("seed", "call", "verify")


@dataclass(frozen=True)
class Target:
    """A figure that cells should not exceed."""

    name: str
    at_most: float
    figure: Callable[[Found], float]
    """Raises KeyError where a cell was not measured."""


def _ratio(cell: Cell) -> Callable[[Found], float]:
    return lambda found: found[cell].ratio.median


def _cpu_over(cell: Cell, other: Cell) -> Callable[[Found], float]:
    return lambda found: found[cell].cpu_ms.median / found[other].cpu_ms.median


def _tail(cell: Cell) -> Callable[[Found], float]:
    def worst(found: Found) -> float:
        latencies = [found[cell].latency_ms[step] for step in REQUESTS]
        return max(each.p99.median / each.p50.median for each in latencies)

    return worst


TARGETS = (
    *(
        Target(f"{backend}, {n} at once: CPU, of the floor's", limit, _ratio(cell))
        for backend, limit in (("asyncio", 1.5), ("trio", 1.6))
        for n in (16, 64)
        for cell in [Cell(backend=backend, concurrency=n)]
    ),
    *(
        Target(f"{backend}, 256 at once: CPU, of that at 16", 1.0, _cpu_over(many, few))
        for backend in ("asyncio", "trio")
        for many, few in [(Cell(backend=backend, concurrency=256), Cell(backend=backend))]
    ),
    *(
        Target(f"{backend}, 256 at once: p99 of a step, of its p50", 3.0, _tail(cell))
        for backend in ("asyncio", "trio")
        for cell in [Cell(backend=backend, concurrency=256)]
    ),
)


def state(found: Found) -> list[tuple[Target, float]]:
    """Return each target whose cells were measured, and its figure."""
    stated = []
    for target in TARGETS:
        try:
            stated.append((target, target.figure(found)))
        except KeyError:
            continue
    return stated
