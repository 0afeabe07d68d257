"""Two reports side by side: what has changed, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.figures import Machine, Measured, Report, Result, Spread, describe_failures
from benchmarks.tables import CROWDED, print_table, spread

FIGURES: tuple[tuple[str, Callable[[Measured], Spread]], ...] = (
    ("CPU ms", lambda found: found.cpu_ms),
    ("CPU/floor", lambda found: found.ratio),
    ("p50 ms", lambda found: found.latency_ms["episode"].p50),
    ("p99 ms", lambda found: found.latency_ms["episode"].p99),
)


def print_comparison(a: Report, b: Report) -> None:
    """Print the cells that both have, and name those that only one has."""
    for label, report in (("A", a), ("B", b)):
        machine = report.machine
        print(f"{label}: {machine.date}, revision {machine.revision or 'unknown'}")
    for difference in differences(a, b):
        print(difference)
    ours, theirs = ({each.cell: each for each in report.results} for report in (a, b))
    both = [cell for cell in ours if cell in theirs]
    print_table(
        "An episode: median (min-max) of the rounds",
        ("cell", "", "A", "B", "change", ""),
        (row for cell in both for row in _rows(ours[cell], theirs[cell])),
    )
    for label, only in (("A", ours.keys() - theirs.keys()), ("B", theirs.keys() - ours.keys())):
        for cell in sorted(only, key=str):
            print(f"only in {label}: {cell}")
    for label, results in (("A", ours), ("B", theirs)):
        for result in results.values():
            if result.measured is None:
                print(f"failed in {label}: {result.cell}: {describe_failures(result.failures)}")


def differences(a: Report, b: Report) -> Iterator[str]:
    """Yield what else than the code may have made the difference."""
    names: tuple[tuple[str, Callable[[Machine], object]], ...] = (
        ("processor", lambda machine: machine.cpu),
        ("cores", lambda machine: machine.cores),
        ("system", lambda machine: machine.system),
        ("Python", lambda machine: machine.python),
    )
    for name, of in names:
        if of(a.machine) != of(b.machine):
            yield f"different {name}: {of(a.machine)} | {of(b.machine)}"
    before, after = a.machine.versions, b.machine.versions
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield f"different {name}: {before.get(name, 'none')} | {after.get(name, 'none')}"
    for label, report in (("A", a), ("B", b)):
        if report.rounds <= 1:
            yield f"{label} has one round: its noise is not known"
        load = report.machine.load_average
        if load is not None and load > CROWDED:
            yield f"{label} was measured beside other programs (load average {load:g})"


def _rows(a: Result, b: Result) -> Iterator[tuple[str, ...]]:
    if a.measured is None or b.measured is None:
        yield str(a.cell), "", *(_state(each) for each in (a, b)), "", "not comparable"
        return
    cell = str(a.cell)
    for name, of in FIGURES:
        before, after = of(a.measured), of(b.measured)
        change = after.median / before.median - 1 if before.median else 0.0
        remark = "within noise" if before.overlaps(after) else "lower" if change < 0 else "higher"
        yield cell, name, spread(before), spread(after), f"{change:+.1%}", remark
        cell = ""


def _state(result: Result) -> str:
    return "failed" if result.measured is None else "ok"
