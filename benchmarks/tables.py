"""Reports and comparisons, as tables for people. The file is for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.cells import Cell
from benchmarks.figures import (
    STEPS,
    Machine,
    Measured,
    Report,
    Result,
    Spread,
    describe_failures,
)
from benchmarks.targets import EPISODES, Target, state

BUSY = 0.8
CROWDED = 1.0
CELL = ("server", "loop", "MCP", "at once", "KB", "with")

LEFT = {"", "cell", "server", "loop", "MCP", "with"}


def print_report(report: Report) -> None:
    """Print what was measured, where, and what to think of it."""
    print_machine(report.machine)
    print(f"rounds: {report.rounds}, of {report.seconds:g} s or more a cell; medians (min-max)")
    print_table(
        "Server CPU of an episode (seed, tool call, verify), and three constant answers' (floor)",
        (*CELL, "episodes/s", "CPU ms", "floor ms", "CPU/floor", "RSS MB", "generator ms", "busy"),
        (_costs(result) for result in report.results),
    )
    print_table(
        "Latency in ms: p50 / p95 / p99",
        (*CELL, *STEPS),
        (_latencies(result) for result in report.results),
    )
    found = {each.cell: each.measured for each in report.results if each.measured is not None}
    print_targets(state(EPISODES, found))
    load = report.machine.load_average
    if load is not None and load > CROWDED:
        print(
            f"warning: the load average was {load:g} before the start: other programs ran, and "
            "took time and caches; measure again when it is quiet"
        )
    for result in report.results:
        print_remarks(result)


def print_targets(stated: Iterable[tuple[Target[Any], float]]) -> None:
    """Print which figures are where they should be."""
    print_table(
        "Targets",
        ("", "at most", "is", ""),
        (
            (target.name, f"{target.at_most:.3g}", f"{figure:.2f}", _met(figure <= target.at_most))
            for target, figure in stated
        ),
    )


def print_machine(machine: Machine) -> None:
    """Print where and when."""
    names = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    load = "" if machine.load_average is None else f"; load average {machine.load_average:g}"
    print(f"{machine.date}, revision {machine.revision or 'unknown'}")
    print(f"{machine.cpu}, {machine.cores} cores, {machine.system}, {machine.python}{load}")
    print(f"{names}")
    print(machine.pinning)


def print_remarks(result: Result) -> None:
    """Print what makes a cell's figures worth less, or nothing."""
    if result.measured is None:
        total = sum(result.failures.values())
        print(f"FAILED: {result.cell}: {total} failures: {describe_failures(result.failures)}")
        return
    for what, busy in (
        ("", result.measured.generator_busy.median),
        ("of the floor: ", result.measured.floor_generator_busy.median),
    ):
        if busy > BUSY:
            print(
                f"warning: {result.cell}: {what}the generator's core was {busy:.0%} busy: rates "
                "and latencies are the generator's as well; CPU figures hold"
            )


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; nothing where it has no rows."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    if table.row_count:
        print()
        # wider than most terminals, which fold a line better than a table folds its cells
        Console(highlight=False, width=250).print(table)


def spread(value: Spread) -> str:
    """Return a figure with its range."""
    digits = 2 if value.median < 10 else 1 if value.median < 100 else 0
    low, high = f"{value.min:.{digits}f}", f"{value.max:.{digits}f}"
    return f"{value.median:.{digits}f}" + ("" if low == high else f" ({low}-{high})")


def _name(cell: Cell) -> tuple[str, ...]:
    load = cell.protocol, str(cell.concurrency), str(cell.kilobytes)
    return cell.server, cell.backend, *load, ", ".join(cell.holds)


def _costs(result: Result) -> tuple[str, ...]:
    found = result.measured
    if found is None:
        return *_name(result.cell), "FAILED", *["-"] * 6
    return (
        *_name(result.cell),
        f"{found.rate.median:.0f}",
        spread(found.cpu_ms),
        f"{found.floor_cpu_ms.median:.2f}",
        spread(found.ratio),
        f"{found.rss_mb.median:.0f}",
        f"{found.generator_cpu_ms.median:.2f}",
        f"{found.generator_busy.median:.0%}",
    )


def _latencies(result: Result) -> tuple[str, ...]:
    if result.measured is None:
        return *_name(result.cell), *["-"] * len(STEPS)
    return *_name(result.cell), *(_three(result.measured, step) for step in STEPS)


def _three(found: Measured, step: str) -> str:
    of = found.latency_ms[step]
    return f"{of.p50.median:.1f} / {of.p95.median:.1f} / {of.p99.median:.1f}"


def _met(met: bool) -> str:
    return "met" if met else "not met"
