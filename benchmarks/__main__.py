"""Measure what episodes cost, and compare what was measured.

Without a benchmark's name: episodes (seed, tool call, verify) over sockets, against the floor.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import call, many_environments, soak, start
from benchmarks.cells import (
    APPLICATIONS,
    BACKENDS,
    DEFAULT,
    LEGACY,
    PROTOCOLS,
    QUICK,
    SERVERS,
    STORES,
    UVICORN,
    Cell,
    choose,
)
from benchmarks.compare import print_comparison
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Report, read_report, write_report
from benchmarks.machine import describe
from benchmarks.progress import Progress
from benchmarks.runs import Run
from benchmarks.servers import Cores, has_uvicorn
from benchmarks.tables import print_report

ROUNDS, SECONDS = 5, 0.8
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.2
IMPOSSIBLE = (
    "nothing serves that: uvicorn runs on asyncio alone, and the sketch has one environment, in "
    f"memory, and speaks {LEGACY}."
)
FOLDER = Path(".cache", "bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, or 1 where anything failed, 2 for what was asked wrongly, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        match options.benchmark:
            case "compare":
                return _compare(options.a, options.b)
            case "environments":
                return _environments(options)
            case "soak":
                return _soak(options)
            case "call":
                return _figures(options, call.main)
            case "start":
                return _figures(options, start.main)
            case _:
                return _episodes(options)
    except KeyboardInterrupt:
        return 130
    finally:
        sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--concurrency", type=_count, nargs="+", default=[], help="episodes at once"
    )
    parser.add_argument("--size", type=_count, nargs="+", default=[], help="trajectory in KB")
    parser.add_argument("--protocol", choices=PROTOCOLS, nargs="+", default=[], help="MCP version")
    parser.add_argument("--backend", choices=BACKENDS, nargs="+", default=[], help="event loop")
    parser.add_argument("--server", choices=SERVERS, nargs="+", default=[], help="HTTP server")
    parser.add_argument(
        "--application", choices=APPLICATIONS, nargs="+", default=[], help="what is served"
    )
    parser.add_argument("--store", choices=STORES, nargs="+", default=[], help="session store")
    parser.add_argument(
        "--environments", type=_count, nargs="+", default=[], help="mounted environments"
    )
    parser.add_argument(
        "--open-sessions", type=_whole, nargs="+", default=[], help="other sessions that are open"
    )
    parser.add_argument("--rounds", type=_count, help=f"interleaved rounds (default: {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few seconds")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"where the report goes (default: in {FOLDER}/)"
    )
    more = parser.add_subparsers(dest="benchmark", metavar="[compare A B | BENCHMARK]")
    compare = more.add_parser("compare", help="compare two reports")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    environments = more.add_parser(
        "environments", help="a tool call among 1 to 1,000 environments, in-process"
    )
    environments.add_argument("--rounds", type=_count, default=15, help="(default: 15)")
    environments.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    soaking = more.add_parser(
        "soak", help="whether a server that has had thousands of sessions is as it was"
    )
    soaking.add_argument("--rounds", type=_count, default=3, help="(default: 3)")
    soaking.add_argument("--backend", choices=BACKENDS, nargs="+", default=list(BACKENDS))
    calls = more.add_parser("call", help="a tool call in-process, above the SDK's bare serve_one")
    calls.add_argument("--rounds", type=_count, default=call.ROUNDS, help="(default: %(default)s)")
    starts = more.add_parser(
        "start", help="time and memory of a start, an environment and an open session"
    )
    starts.add_argument(
        "--rounds", type=_count, default=start.ROUNDS, help="(default: %(default)s)"
    )
    for each in (calls, starts):
        each.add_argument("--backend", choices=BACKENDS, nargs="+", default=list(BACKENDS))
        each.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    return parser


def _count(text: str) -> int:
    return _whole(text, 1)


def _whole(text: str, least: int = 0) -> int:
    if not (text.isdecimal() and len(text) < 6 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to 99999")
    return int(text)


def _compare(a: Path, b: Path) -> int:
    try:
        print_comparison(read_report(a), read_report(b))
    except BenchmarkError as exc:
        return _complain(exc, 2)
    return 0


def _environments(options: argparse.Namespace) -> int:
    figures = {"many_environments": many_environments.main(options.rounds)}
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _soak(options: argparse.Namespace) -> int:
    try:
        return 0 if soak.main(options.rounds, options.backend) else 1
    except BenchmarkError as exc:
        return _complain(exc, 1)


def _figures(
    options: argparse.Namespace, measure: Callable[[int, Sequence[str]], dict[str, Any]]
) -> int:
    try:
        figures = measure(options.rounds, options.backend)
        if options.json is not None:
            options.json.write_text(json.dumps(figures, indent=2) + "\n")
    except BenchmarkError as exc:
        return _complain(exc, 1)
    except OSError as exc:
        return _complain(f"{options.json} can't be written: {exc.strerror}.", 1)
    return 0


def _episodes(options: argparse.Namespace) -> int:
    cells = choose(
        QUICK if options.quick else DEFAULT,
        backends=options.backend,
        servers=options.server,
        kilobytes=options.size,
        protocol=options.protocol,
        concurrency=options.concurrency,
        application=options.application,
        store=options.store,
        environments=options.environments,
        open_sessions=options.open_sessions,
    )
    if not cells:
        return _complain(IMPOSSIBLE, 2)
    if not has_uvicorn():
        cells = [cell for cell in cells if cell.server != UVICORN]
        _complain("uvicorn is left out. Try: pip install 'gymhost[uvicorn]'", 0)
        if not cells:
            return 2
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    seconds = QUICK_SECONDS if options.quick else SECONDS
    try:
        path = _report_path(options.json)
    except OSError as exc:
        return _complain(f"{options.json or FOLDER} can't be written: {exc.strerror}.", 2)
    return _measure(cells, rounds, seconds, path)


def _measure(cells: Sequence[Cell], rounds: int, seconds: float, path: Path) -> int:
    cores = Cores()
    machine = describe(cores.note)
    run: Run | None = None
    finished, status = 0, 0
    with Progress(Run.steps(cells, rounds)) as progress:
        try:
            run = Run(cells, cores, seconds=seconds, tell=progress.tell)
            for finished in range(rounds):
                run.round(finished)
            finished = rounds
        except BenchmarkError as exc:
            status = _complain(exc, 1)
        except KeyboardInterrupt:
            status = _complain(f"interrupted in round {finished + 1} of {rounds}", 130)
        finally:
            if run is not None:
                run.close()
    results = [] if run is None else run.results()
    if not results:
        return status
    report = Report(machine=machine, rounds=finished, seconds=seconds, results=results)
    status = status or int(any(result.failures for result in results))
    written = f"\nwritten to {path}: make bench-compare OTHER {path}"
    try:
        write_report(report, path)  # first: a pipe may be closed while the tables are printed
    except BenchmarkError as exc:
        status, written = _complain(exc, 1), ""
    print_report(report)
    print(written)
    return status


def _report_path(asked: Path | None) -> Path:
    """Return where the report goes; that it can be written is known before anything is run."""
    if asked is None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        return FOLDER / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    is_new = not asked.exists()
    asked.open("ab").close()
    if is_new:
        asked.unlink()
    return asked


def _complain(error: object, status: int) -> int:
    print(f"benchmarks: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # so that servers are stopped and finished rounds are printed, also when a timeout ends us
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
