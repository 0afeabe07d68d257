"""What a run comes to: figures of cells, and the file they are kept in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from benchmarks.cells import Cell
from benchmarks.errors import BenchmarkError

SCHEMA_VERSION = 1
STEPS = ("seed", "call", "verify", "episode")
"""What latencies are of: the requests, and an episode from its first byte to its last."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Model):
    """A figure over the rounds of a run."""

    median: FiniteFloat
    min: FiniteFloat
    max: FiniteFloat

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        return cls(median=median(found), min=found[0], max=found[-1])

    def overlaps(self, other: Spread) -> bool:
        """Whether a difference between the two may be noise."""
        return self.min <= other.max and other.min <= self.max


class Percentiles(_Model):
    """Milliseconds."""

    p50: Spread
    p95: Spread
    p99: Spread


class Measured(_Model):
    """What episodes of one cell cost. CPU is in milliseconds of one episode."""

    rate: Spread
    """Episodes in a second."""
    cpu_ms: Spread
    """Of the server."""
    rounds_cpu_ms: list[FiniteFloat] = []
    """The same of each round: a ratio of two cells is taken within a round. Older reports: none."""
    floor_cpu_ms: Spread
    """Of the server, for three constant answers."""
    ratio: Spread
    """Of the two, taken in each round: the figure that other days and machines may share."""
    generator_cpu_ms: Spread
    generator_busy: Spread
    """What part of the time the generator used its core; beyond 0.8 it is what was measured."""
    floor_generator_busy: Spread
    rss_mb: Spread
    """Of the server process, which has served the cells before this one, too."""
    latency_ms: dict[str, Percentiles]
    """Of each of STEPS."""


class Result(_Model):
    """One cell."""

    cell: Cell
    episodes: int
    """Those that went well."""
    failures: dict[str, int]
    """Those that did not, by kind."""
    measured: Measured | None
    """None where anything failed: a speed would mean nothing."""


class Machine(_Model):
    """Where and when."""

    date: str
    python: str
    cpu: str
    cores: int
    system: str
    pinning: str
    load_average: float | None
    """Over the minute before the start: what else was running."""
    versions: dict[str, str]
    revision: str | None


class Report(_Model):
    """A run."""

    schema_version: Literal[1] = 1
    benchmark: Literal["episodes"] = "episodes"
    machine: Machine
    rounds: int
    seconds: FiniteFloat
    """What a cell got in a round, at least."""
    results: list[Result]


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the smallest value that is not below `part` of all (nearest rank)."""
    return ordered[max(math.ceil(part * len(ordered)), 1) - 1]


def describe_failures(failures: Mapping[str, int], most: int = 5) -> str:
    """Return failures by kind, the most frequent first."""
    kinds = Counter(failures).most_common()
    more = f", and {len(kinds) - most} kinds more" if len(kinds) > most else ""
    return ", ".join(f"{kind} ({number})" for kind, number in kinds[:most]) + more


def write_report(report: Report, path: Path) -> None:
    """Write the file whole or not at all.

    Raises: BenchmarkError: it can't be written.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
        partial.replace(path)
    except OSError as exc:
        raise BenchmarkError(f"{path} can't be written: {exc.strerror}.") from exc


def read_report(path: Path) -> Report:
    """Read a file that `write_report` wrote.

    Raises: BenchmarkError: there is none, or it is something else.
    """
    try:
        raw: Any = pydantic_core.from_json(path.read_bytes())
    except OSError as exc:
        raise BenchmarkError(f"{path} can't be read: {exc.strerror}.") from exc
    except ValueError as exc:
        raise BenchmarkError(f"{path} is not JSON: {exc}.") from exc
    if not isinstance(raw, dict) or "schema_version" not in raw:
        raise BenchmarkError(f"{path} is no report of `make bench`: it has no schema_version.")
    version = raw["schema_version"]
    if version != SCHEMA_VERSION:
        raise BenchmarkError(
            f"{path} has schema_version {version!r}, and this is {SCHEMA_VERSION}: "
            "compare it with the gymhost that wrote it, or measure again."
        )
    try:
        return Report.model_validate(raw)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BenchmarkError(f"{path} is damaged: {where}: {first['msg']}.") from exc
