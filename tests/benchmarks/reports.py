"""Reports made by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.cells import Cell
from benchmarks.figures import STEPS, Machine, Measured, Percentiles, Report, Result, Spread

MACHINE = Machine(
    date="2026-01-01T00:00:00+00:00",
    python="CPython 3.11.7",
    cpu="A processor",
    cores=2,
    system="Linux 6.1 x86_64",
    pinning="server on core 1, generator on core 0",
    load_average=0.1,
    versions={"gymhost": "0.1.0", "mcp": "2.3.0"},
    revision="abc",
)


def around(value: float, noise: float = 0.0) -> Spread:
    return Spread(median=value, min=value - noise, max=value + noise)


def measured(
    cpu: float = 2.0, floor: float = 1.0, *, noise: float = 0.1, **changed: Any
) -> Measured:
    latency = Percentiles(p50=around(8, noise), p95=around(9, noise), p99=around(10, noise))
    figures = {
        "rate": around(500),
        "cpu_ms": around(cpu, noise),
        "floor_cpu_ms": around(floor),
        "ratio": around(cpu / floor, noise),
        "generator_cpu_ms": around(0.2),
        "generator_busy": around(0.1),
        "floor_generator_busy": around(0.2),
        "rss_mb": around(80),
        "latency_ms": dict.fromkeys(STEPS, latency),
    }
    return Measured(**{**figures, **changed})


def result(cell: Cell, found: Measured) -> Result:
    return Result(cell=cell, episodes=100, failures={}, measured=found)


def failed(cell: Cell, kind: str, number: int) -> Result:
    return Result(cell=cell, episodes=100, failures={kind: number}, measured=None)


def report(*results: Result, machine: Machine = MACHINE, rounds: int = 5) -> Report:
    return Report(machine=machine, rounds=rounds, seconds=0.8, results=list(results))
