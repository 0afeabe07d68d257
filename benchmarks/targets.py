"""Where the figures should get to. None of them fails a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from benchmarks.cells import BACKENDS, SKETCH, SQLITE, STACKS, USUAL, UVICORN, Cell
from benchmarks.figures import Measured

Found = Mapping[Cell, Measured]
Figures = Mapping[str, float]
"""What a benchmark of its own has measured, by name."""
REQUESTS = ("seed", "call", "verify")
_F = TypeVar("_F")


@dataclass(frozen=True)
class Target(Generic[_F]):
    """A figure that should not be exceeded."""

    name: str
    at_most: float
    figure: Callable[[_F], float]
    """Raises KeyError where what it is made of was not measured."""


def _cpu(cell: Cell) -> Callable[[Found], float]:
    return lambda found: found[cell].cpu_ms.median


def _ratio(cell: Cell) -> Callable[[Found], float]:
    return lambda found: found[cell].ratio.median


def _cpu_over(cell: Cell, other: Cell) -> Callable[[Found], float]:
    def over(found: Found) -> float:
        one, two = found[cell], found[other]
        pairs = list(zip(one.rounds_cpu_ms, two.rounds_cpu_ms, strict=False))
        if not pairs:  # an older report
            return one.cpu_ms.median / two.cpu_ms.median
        return median(a / b for a, b in pairs)

    return over


def _of_sketch(cell: Cell) -> Callable[[Found], float]:
    return _cpu_over(cell, cell.on(application=SKETCH))


def _tail(cell: Cell) -> Callable[[Found], float]:
    def worst(found: Found) -> float:
        latencies = [found[cell].latency_ms[step] for step in REQUESTS]
        return max(each.p99.median / each.p50.median for each in latencies)

    return worst


def _named(name: str) -> Callable[[Figures], float]:
    return lambda found: found[name]


_CELLS = [Cell(server=server, backend=backend) for server, backend in STACKS]
EPISODES: tuple[Target[Found], ...] = (
    *(
        Target(f"{backend}, {n} at once: CPU, of the floor's", limit, _ratio(cell))
        for backend, limit in (("asyncio", 1.5), ("trio", 1.6))
        for n in (16, 64)
        for cell in [Cell(backend=backend, concurrency=n)]
    ),
    *(
        Target(f"{cell.stack_name}, {n} at once: CPU in ms", 0.5, _cpu(cell.on(concurrency=n)))
        for cell in [Cell(server=UVICORN, backend="asyncio")]
        for n in (16, 64)
    ),
    *(
        Target(
            f"{cell.stack_name}, 256 at once: CPU, of that at 16",
            1.0,
            _cpu_over(cell.on(concurrency=256), cell),
        )
        for cell in _CELLS
    ),
    *(
        Target(
            f"{cell.stack_name}, 256 at once: p99 of a step, of its p50",
            3.0,
            _tail(cell.on(concurrency=256)),
        )
        for cell in _CELLS
    ),
    *(
        Target(
            f"{cell.stack_name}, 512 KB: CPU, of the sketch's",
            0.5,
            _of_sketch(cell.on(kilobytes=512)),
        )
        for cell in _CELLS
    ),
    *(
        Target(
            f"{cell.stack_name}, {cell.concurrency} at once: CPU with sqlite, of that with memory",
            1.7,
            _cpu_over(cell.on(store=SQLITE), cell),
        )
        for cell in (*_CELLS, USUAL.on(concurrency=64))
    ),
)

CALL: tuple[Target[Figures], ...] = tuple(
    Target(
        f"{backend}: a tool call in-process, above serve_one, in microseconds",
        30.0,
        _named(f"{backend} above us"),
    )
    for backend in BACKENDS
)

START: tuple[Target[Figures], ...] = tuple(
    Target(f"{backend}: {name}", at_most, _named(f"{backend} {figure}"))
    for backend in BACKENDS
    for name, at_most, figure in (
        ("2 environments, after start: MB above the imports", 8.0, "MB above"),
        ("2 environments, to the first answer: s above the imports", 0.3, "s above"),
        ("100 environments, to the first answer: s", 2.0, "hundred s"),
        ("one more environment with one tool: MB", 0.3, "environment MB"),
        ("one open session without calls: KB", 3.0, "session KB"),
    )
)


def state(targets: Sequence[Target[_F]], found: _F) -> list[tuple[Target[_F], float]]:
    """Return each target whose figures were measured, and its figure."""
    stated = []
    for target in targets:
        try:
            stated.append((target, target.figure(found)))
        except KeyError:
            continue
    return stated
