"""What a start takes, and what one more environment and one open session add to it.

Each is a process of its own, from being run to its first answer of /healthz. They take turns, round
by round, beside one that only imports mcp, starlette and hypercorn.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from compileall import compile_dir
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from time import perf_counter, sleep
from typing import Any

from benchmarks.cells import Setup
from benchmarks.counts import check_counts
from benchmarks.figures import Spread
from benchmarks.progress import Progress
from benchmarks.runs import open_sessions
from benchmarks.servers import (
    START_SECONDS,
    Cores,
    Server,
    ServerDied,
    gymhost_server,
    importing_server,
)
from benchmarks.tables import print_table, print_targets, spread
from benchmarks.targets import START, state

ROUNDS = 3
MANY = 1000
"""Environments: what one more of them takes is the slope up to here."""
OPEN = (1000, 20_000)
"""Sessions: what one more of them takes is the slope between the two."""
IMPORTS, ONE, TWO, HUNDRED = "imports alone", "1 environment", "2 environments", "100 environments"
FIGURES = ("seconds", "cpu", "memory")
"""Of one start."""
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Started:
    """One start."""

    seconds: float
    """From being run to the first answer."""
    cpu: float
    """Seconds."""
    memory: float
    """MB resident, then."""


@dataclass
class _Found:
    """What the rounds of one event loop have found."""

    starts: dict[str, list[Started]]
    session_kb: list[float]

    def spread(self, name: str, figure: str) -> Spread:
        """Return a figure of one kind of start."""
        return Spread.of(getattr(each, figure) for each in self.starts[name])

    def above(self, name: str, other: str, figure: str) -> Spread:
        """Return what one kind takes more than another, in each round."""
        pairs = zip(self.starts[name], self.starts[other], strict=True)
        return Spread.of(getattr(one, figure) - getattr(two, figure) for one, two in pairs)

    def environment_mb(self) -> Spread:
        """What one more environment takes."""
        more = self.above(f"{MANY} environments", ONE, "memory")
        return Spread(**{name: value / (MANY - 1) for name, value in more})


def first_answer(server: Server, port: int) -> float:
    """Wait for the first answer of /healthz; return the seconds since the process was run.

    Raises: ServerDied: there is none.
    """
    deadline = server.begun + START_SECONDS
    while perf_counter() < deadline:
        server.check()
        with suppress(OSError):  # refused, or hung up: is it alive?
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.settimeout(max(deadline - perf_counter(), 0.1))
                connection.sendall(REQUEST)
                answer = connection.recv(65536)
                seconds = perf_counter() - server.begun
            if re.match(rb"HTTP/1\.1 200\b", answer) is None:
                raise ServerDied(f"the {server.name} server answered {answer!r}.{server.tail()}")
            return seconds
        sleep(0.001)  # nothing tells when a process begins to listen
    raise ServerDied(f"the {server.name} server gave no answer in time.{server.tail()}")


def _start(server: Server, port: int, cores: Cores) -> Started:
    server.pin(cores)
    seconds = first_answer(server, port)
    return Started(seconds, server.cpu(), server.memory() / 2**20)


def compile_sources() -> None:
    """Compile what is served, as an installation does: a start does not pay for it.

    Python would do so by itself at the first start, but not with PYTHONDONTWRITEBYTECODE.
    """
    for name in ("gymhost", "gym_env_weather"):
        spec = find_spec(name)
        for folder in (spec and spec.submodule_search_locations) or ():
            compile_dir(folder, quiet=2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def _round(backend: str, cores: Cores, found: _Found) -> None:
    port = _free_port()
    with importing_server(backend, port) as server:
        found.starts[IMPORTS].append(_start(server, port, cores))
    for name in list(found.starts)[1:]:
        setup = Setup(backend=backend, environments=int(name.split()[0]))
        port = _free_port()
        with gymhost_server(setup, port) as server:
            found.starts[name].append(_start(server, port, cores))
            server.wait(cores)
            check_counts(server, setup)


def _session_kb(backend: str, cores: Cores) -> float:
    """Return what one more open session takes.

    Raises: BenchmarkError: one can't be opened.
    """
    few, many = OPEN
    setup = Setup(backend=backend, open_sessions=many)
    with gymhost_server(setup) as server:
        server.wait(cores)
        memory = []
        for number in (few, many - few):
            open_sessions(server, number)
            memory.append(server.memory())
        check_counts(server, setup)
    return (memory[1] - memory[0]) / (many - few) / 1024


def main(rounds: int, backends: Sequence[str]) -> dict[str, Any]:
    """Measure on the event loops and print tables.

    Raises: BenchmarkError: something did not start, or did not answer.
    """
    compile_sources()
    cores = Cores()
    kinds = (IMPORTS, ONE, TWO, HUNDRED, f"{MANY} environments")
    found = {backend: _Found({kind: [] for kind in kinds}, []) for backend in backends}
    cores.pin_generator()
    with Progress(rounds * len(backends) * 2) as progress:
        for number in range(rounds):
            for backend in backends:
                progress.tell(f"round {number + 1}: {backend}: starts")
                _round(backend, cores, found[backend])
                progress.tell(f"round {number + 1}: {backend}: {OPEN[1]} open sessions")
                found[backend].session_kb.append(_session_kb(backend, cores))
    print(f"rounds: {rounds}; {cores.note}; medians (min-max)")
    _print(found)
    return {"start": {backend: _figures(each) for backend, each in found.items()}}


def _print(found: dict[str, _Found]) -> None:
    print_table(
        "A start, to the first answer of /healthz",
        ("loop", "", "s", "CPU s", "MB"),
        (
            (backend, kind, *(spread(each.spread(kind, figure)) for figure in FIGURES))
            for backend, each in found.items()
            for kind in each.starts
        ),
    )
    print_table(
        "One more",
        ("loop", "", "is"),
        (
            row
            for backend, each in found.items()
            for row in (
                (backend, "environment with one tool, MB", spread(each.environment_mb())),
                (backend, "open session without calls, KB", spread(Spread.of(each.session_kb))),
            )
        ),
    )
    stated: dict[str, float] = {}
    for backend, each in found.items():
        stated |= {f"{backend} {name}": value for name, value in _targeted(each).items()}
    print_targets(state(START, stated))


def _targeted(found: _Found) -> dict[str, float]:
    return {
        "MB above": found.above(TWO, IMPORTS, "memory").median,
        "s above": found.above(TWO, IMPORTS, "seconds").median,
        "hundred s": found.spread(HUNDRED, "seconds").median,
        "environment MB": found.environment_mb().median,
        "session KB": median(found.session_kb),
    }


def _figures(found: _Found) -> dict[str, Any]:
    return {
        **{
            kind: {figure: found.spread(kind, figure).model_dump() for figure in FIGURES}
            for kind in found.starts
        },
        **_targeted(found),
    }
