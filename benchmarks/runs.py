"""A run: the cells take turns, round by round, each beside its floor.

A machine that slows down slows all of them, and the ratio to the floor is taken within a round.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter, process_time

from benchmarks.cells import Cell, Setup
from benchmarks.counts import check_counts
from benchmarks.errors import BenchmarkError
from benchmarks.figures import (
    STEPS,
    Measured,
    Percentiles,
    Result,
    Spread,
    describe_failures,
    percentile,
)
from benchmarks.load import PATIENCE_SECONDS, Episode, Load, Window, episodes
from benchmarks.servers import Cores, Server, floor_server, gymhost_server
from benchmarks.weather import CITIES, Floor, Openings, Weather

CLOCK_TICK = 0.01
"""Seconds: what a process has used is told in steps of it, and nothing costs nothing."""

AT_ONCE = 16
"""Sessions that are opened at once."""

Play = Callable[[int], Episode]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """One cell in one round, and its floor."""

    window: Window
    seconds: float
    cpu: float
    generator_cpu: float
    rss: int


@dataclass
class _Track:
    """A cell, how it is played, and what has been found so far."""

    cell: Cell
    server: Server
    floor: Server
    play: Play
    play_floor: Play
    samples: list[tuple[Sample, Sample]] = field(default_factory=list)


class Run:
    """Starts the servers, and stops them. Its results are those of the rounds that have ended.

    Raises: BenchmarkError: a server does not start, or no episode of a cell goes well.
    """

    @staticmethod
    def steps(cells: Sequence[Cell], rounds: int) -> int:
        """How often it tells what happens."""
        setups = dict.fromkeys(cell.setup for cell in cells)
        return (
            len(setups)
            + sum(setup.open_sessions > 0 for setup in setups)
            + (len(cells) * (rounds + 1))
        )

    def __init__(
        self,
        cells: Sequence[Cell],
        cores: Cores,
        *,
        seconds: float,
        patience: float = PATIENCE_SECONDS,
        tell: Tell = lambda text: None,
    ) -> None:
        """A cell is measured for `seconds` in a round, at least; `tell` is told what happens."""
        self._seconds = seconds
        self._patience = patience
        self._tell = tell
        self._stack = ExitStack()
        try:
            setups = list(dict.fromkeys(cell.setup for cell in cells))
            enter = self._stack.enter_context
            servers = {setup: enter(gymhost_server(setup)) for setup in setups}
            stacks = dict.fromkeys(setup.stack for setup in setups)
            floors = {stack: enter(floor_server(stack)) for stack in stacks}
            for setup, server in servers.items():
                tell(f"starting gymhost on {setup}")
                server.wait(cores)
            for floor in floors.values():
                floor.wait(cores)
            cores.pin_generator()
            for setup, server in servers.items():
                self._open(setup, server)
            self._tracks = [
                self._track(cell, servers[cell.setup], floors[cell.stack]) for cell in cells
            ]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the servers."""
        self._stack.close()

    def round(self, number: int) -> None:
        """Measure each cell, and its floor, once.

        Raises: ServerDied.
        """
        backwards = number % 2 == 1  # what changes in the course of a round hits each end equally
        for track in reversed(self._tracks) if backwards else self._tracks:
            if backwards:
                floor = self._measure(track.cell, track.floor, track.play_floor)
                sample = self._measure(track.cell, track.server, track.play)
            else:
                sample = self._measure(track.cell, track.server, track.play)
                floor = self._measure(track.cell, track.floor, track.play_floor)
            track.samples.append((sample, floor))
            self._tell(f"round {number + 1}: {track.cell}: {_brief(sample, floor)}")

    def results(self) -> list[Result]:
        """Return what has been measured, without cells that have not had a round."""
        return [_result(track.cell, track.samples) for track in self._tracks if track.samples]

    def _open(self, setup: Setup, server: Server) -> None:
        """Seed the sessions that are to stay open, and see that all is there."""
        if setup.open_sessions:
            self._tell(f"opening {setup.open_sessions} sessions on {setup}")
            open_sessions(server, setup.open_sessions, patience=self._patience)
        if setup.environments > 1 or setup.open_sessions:
            check_counts(server, setup)

    def _track(self, cell: Cell, server: Server, floor: Server) -> _Track:
        """Try a cell: code gets warm, and the floor is told how long the answers are."""
        self._tell(f"trying {cell}")
        weather = Weather(cell, server.key)
        server.check()
        with Load(server.address, 1, patience=self._patience) as load:
            window = load.play(episodes(weather.play, at_least=2 * len(CITIES)))
        if window.failures:
            server.check(1.0 if window.retired else 0.0)
            raise BenchmarkError(
                f"{cell}: the first episodes failed: {describe_failures(window.failures)}."
            )
        play_floor = Floor(cell, server.key, window.answer_bytes).play
        return _Track(cell, server, floor, weather.play, play_floor)

    def _measure(self, cell: Cell, server: Server, play: Play) -> Sample:
        server.check()
        with Load(server.address, cell.concurrency, patience=self._patience) as load:
            # accepting the connections is not what is measured
            first = load.play(episodes(play, at_least=cell.concurrency))
            self._check_answered(cell, server, first)
            # enough that the first ones, all at the same step, don't make the latencies
            at_least = max(2 * len(CITIES), 3 * cell.concurrency)
            gc.collect()
            gc.disable()
            try:
                cpu, generator_cpu, begun = server.cpu(), process_time(), perf_counter()
                window = load.play(episodes(play, at_least=at_least, seconds=self._seconds))
                seconds, generator_cpu = perf_counter() - begun, process_time() - generator_cpu
                server.check(1.0 if window.retired else 0.0)
                cpu = max(server.cpu() - cpu, CLOCK_TICK)
            finally:
                gc.enable()
        window.failures += first.failures
        self._check_answered(cell, server, window)
        return Sample(window, seconds, cpu, generator_cpu, server.memory())

    def _check_answered(self, cell: Cell, server: Server, window: Window) -> None:
        if window.late:  # more of the same would take hours
            raise BenchmarkError(
                f"{cell}: the {server.name} server did not answer within {self._patience:g} s: "
                f"{describe_failures(window.failures)}.{server.tail()}"
            )


def open_sessions(server: Server, number: int, *, patience: float = PATIENCE_SECONDS) -> None:
    """Seed sessions, and leave them open.

    Raises: BenchmarkError: one was not.
    """
    with Load(server.address, AT_ONCE, patience=patience) as load:
        window = load.play(episodes(Openings(server.key).play, at_least=number))
    if window.failures:
        server.check(1.0 if window.retired else 0.0)
        raise BenchmarkError(
            f"the {server.name} server opens no sessions: {describe_failures(window.failures)}."
        )


def _failures(samples: Sequence[tuple[Sample, Sample]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for sample, floor in samples:
        found += sample.window.failures
        found += Counter({f"floor: {kind}": n for kind, n in floor.window.failures.items()})
    return found


def _brief(sample: Sample, floor: Sample) -> str:
    failures = _failures([(sample, floor)])
    if failures:
        return f"FAILED: {describe_failures(failures)}"
    ratio = _cpu_ms(sample) / _cpu_ms(floor)
    return f"{_cpu_ms(sample):.2f} ms CPU an episode, {ratio:.2f} times the floor"


def _result(cell: Cell, samples: Sequence[tuple[Sample, Sample]]) -> Result:
    failures = _failures(samples)
    done = sum(sample.window.episodes for sample, _ in samples)
    measured = None if failures else _measured(samples)
    return Result(cell=cell, episodes=done, failures=dict(failures), measured=measured)


def _measured(samples: Sequence[tuple[Sample, Sample]]) -> Measured:
    own = [sample for sample, _ in samples]
    floors = [floor for _, floor in samples]
    return Measured(
        rate=Spread.of(sample.window.episodes / sample.seconds for sample in own),
        cpu_ms=Spread.of(map(_cpu_ms, own)),
        floor_cpu_ms=Spread.of(map(_cpu_ms, floors)),
        ratio=Spread.of(_cpu_ms(sample) / _cpu_ms(floor) for sample, floor in samples),
        generator_cpu_ms=Spread.of(
            sample.generator_cpu / sample.window.episodes * 1000 for sample in own
        ),
        generator_busy=Spread.of(map(_busy, own)),
        floor_generator_busy=Spread.of(map(_busy, floors)),
        rounds_cpu_ms=list(map(_cpu_ms, own)),
        rss_mb=Spread.of(sample.rss / 2**20 for sample in own),
        latency_ms={step: _percentiles(own, step) for step in STEPS},
    )


def _percentiles(samples: Sequence[Sample], step: str) -> Percentiles:
    ordered = [sorted(sample.window.latencies[step]) for sample in samples]

    def spread(part: float) -> Spread:
        return Spread.of(percentile(each, part) * 1000 for each in ordered)

    return Percentiles(p50=spread(0.5), p95=spread(0.95), p99=spread(0.99))


def _cpu_ms(sample: Sample) -> float:
    return sample.cpu / sample.window.episodes * 1000


def _busy(sample: Sample) -> float:
    return sample.generator_cpu / sample.seconds
