"""Runs against stand-ins: what fails is shown instead of a speed, and ends with status 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter
from types import TracebackType

import pytest

from benchmarks import __main__ as command
from benchmarks import many_environments, runs
from benchmarks.cells import Cell
from benchmarks.errors import BenchmarkError
from benchmarks.figures import read_report
from benchmarks.runs import Run
from benchmarks.servers import Cores, ServerDied
from tests.benchmarks.fake_server import FakeServer, answer, fake_server

ARGUMENTS = [
    *("--quick", "--server", "hypercorn", "--backend", "asyncio", "--concurrency", "2"),
]


class StandIn(AbstractContextManager["StandIn"]):
    """A server of this process, with a processor of its own: 3 ms for each request."""

    key = "key"
    milliseconds = 3.0

    def __init__(self, name: str, fake: FakeServer) -> None:
        self.name, self.fake = name, fake
        self.address = fake.address
        self.alive: Callable[[], bool] = lambda: True
        self.stopped = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stopped = True

    def wait(self, cores: Cores) -> None:
        pass

    def cpu(self) -> float:
        return len(self.fake.requests) * self.milliseconds / 1000

    def memory(self) -> int:
        return 50 * 2**20

    def check(self, patience: float = 0.0) -> None:
        if not self.alive():
            raise ServerDied(f"the {self.name} server ended with -9.\n  out of memory")

    def tail(self) -> str:
        return "\n  what it logged"


@pytest.fixture
def servers(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StandIn]]:
    """The host and its floor, in the place of processes."""
    # it would hold for the tests after this one, too
    monkeypatch.setattr(Cores, "pin_generator", lambda self: None)
    with fake_server() as floor:
        both = [StandIn("asyncio", server), StandIn("asyncio floor", floor)]
        both[1].milliseconds = 2.0
        monkeypatch.setattr(runs, "gymhost_server", lambda setup: both[0])
        monkeypatch.setattr(runs, "floor_server", lambda setup: both[1])
        yield both


def run(tmp_path: Path, *more: str) -> int:
    return command.main([*ARGUMENTS, *more, "--json", str(tmp_path / "report.json")])


def test_cpu_is_that_of_the_episodes_and_the_ratio_that_of_the_floor(
    servers: list[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--rounds", "2") == 0
    report = read_report(tmp_path / "report.json")
    (result,) = report.results
    assert result.cell == Cell(backend="asyncio", concurrency=2)
    found = result.measured
    assert found is not None
    assert found.cpu_ms.median == pytest.approx(9.0)
    assert found.rounds_cpu_ms == pytest.approx([9.0, 9.0])
    assert found.floor_cpu_ms.median == pytest.approx(6.0)
    assert found.ratio.median == pytest.approx(1.5)
    assert found.rss_mb.median == 50
    assert 0 < found.rate.min <= found.rate.max
    for step in found.latency_ms.values():
        assert 0 < step.p50.median <= step.p95.median <= step.p99.median
    assert 0 < found.generator_cpu_ms.median < 100
    printed = capsys.readouterr()
    assert "9.00" in printed.out
    assert printed.err.splitlines()[-1].startswith("round 2: asyncio")
    assert [server.stopped for server in servers] == [True, True]


def test_the_connections_and_first_episodes_are_not_measured(servers: list[StandIn]) -> None:
    """They are played, but what the server does for them is no part of the figures."""
    begun: list[int] = []
    original = servers[0].cpu

    def note() -> float:
        begun.append(len(servers[0].fake.expected))
        return original()

    servers[0].cpu = note  # type: ignore[method-assign]
    measured = Run([Cell(backend="asyncio", concurrency=40)], Cores(), seconds=0.0)
    tried = len(servers[0].fake.expected)
    measured.round(0)
    before, after = begun
    assert before == tried + 40
    assert after == before + 120  # three for each connection
    (result,) = measured.results()
    assert result.episodes == 120


def test_rounds_alternate_which_comes_first(servers: list[StandIn]) -> None:
    told: list[str] = []
    cells = [Cell(backend="asyncio", concurrency=n) for n in (1, 2)]
    measured = Run(cells, Cores(), seconds=0.0, tell=told.append)
    told.clear()
    for number in range(2):
        measured.round(number)
    assert [text.split(" at once")[0].split()[-1] for text in told] == ["1", "2", "2", "1"]


@pytest.mark.parametrize("which", [0, 1])
def test_failures_are_shown_instead_of_a_speed(
    which: int, servers: list[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the host as of its floor."""

    def spoil(number: int, due: bytes) -> bytes:
        asked = len(servers[which].fake.requests)
        return answer({}, status=500) if asked == 150 else due

    servers[which].fake.spoil = dict.fromkeys(("call", "seed", "verify", "floor"), spoil)
    assert run(tmp_path, "--rounds", "2") == 1
    (result,) = read_report(tmp_path / "report.json").results
    assert result.measured is None
    ((kind, number),) = result.failures.items()
    assert kind.startswith("floor: ") == (which == 1)
    assert kind.endswith(": HTTP 500")
    assert number == 1
    out = capsys.readouterr().out
    assert f"FAILED: {result.cell}: 1 failures: {kind} (1)" in out
    (row,) = [
        line.split() for line in out.splitlines() if line.startswith("hypercorn") and "FAIL" in line
    ]
    assert row == ["hypercorn", "asyncio", "2025-06-18", "2", "2", "FAILED", *["-"] * 6]


def test_a_cell_of_which_nothing_goes_well_ends_the_run(
    servers: list[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers[0].fake.spoil["seed"] = lambda number, due: answer({}, status=404)
    assert run(tmp_path) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert not (tmp_path / "report.json").exists()
    assert "the first episodes failed: seed: HTTP 404 (32)." in error.splitlines()[-1]
    assert [server.stopped for server in servers] == [True, True]


def test_a_server_that_dies_ends_the_run_and_the_finished_rounds_are_kept(
    servers: list[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looked: list[int] = []

    def live_through_one_round() -> int:
        looked.append(1)
        servers[0].alive = lambda: len(looked) < 2
        return 0

    servers[1].memory = live_through_one_round  # type: ignore[method-assign]
    assert run(tmp_path, "--rounds", "1000") == 1
    out, error = capsys.readouterr()
    assert "benchmarks: the asyncio server ended with -9.\n  out of memory\n" in error
    report = read_report(tmp_path / "report.json")
    assert report.rounds == 1
    assert "Server CPU of an episode" in out


def test_a_server_that_refuses_connections_is_waited_for_to_end(
    servers: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was killed takes no connections a moment before it has ended."""
    measured = Run([Cell(backend="asyncio", concurrency=2)], Cores(), seconds=0.0)

    def leave(number: int, due: bytes) -> None:
        if number == 40:  # tried with 32, and 2 before the measurement
            servers[0].fake.go_away()

    def check(patience: float = 0.0) -> None:
        if patience > 0:
            raise ServerDied("it ended with -9")

    servers[0].fake.spoil["verify"] = lambda number, due: (
        leave(number, due) if number >= 40 else due
    )
    monkeypatch.setattr(servers[0], "check", check)
    with pytest.raises(ServerDied, match="it ended with -9"):
        measured.round(0)


def test_failures_before_the_measurement_count(servers: list[StandIn]) -> None:
    measured = Run([Cell(backend="asyncio", concurrency=4)], Cores(), seconds=0.0)
    servers[0].fake.spoil["call"] = lambda number, due: (
        answer({}, status=500) if number == 33 else due
    )
    measured.round(0)
    (result,) = measured.results()
    assert result.failures == {"call: HTTP 500": 1}
    assert result.measured is None


def test_a_server_that_hangs_ends_the_run(
    servers: list[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = Run([Cell(backend="asyncio")], Cores(), seconds=0.0, patience=0.2)
    servers[0].fake.spoil["verify"] = lambda number, due: bytes(not servers[0].fake.hung.wait())
    with pytest.raises(
        BenchmarkError,
        match=r"the asyncio server did not answer within 0\.2 s: verify: no answer in time \(16\)",
    ):
        measured.round(0)
    assert measured.results() == []


def test_an_interrupted_run_stops_the_servers_and_shows_what_was_finished(
    servers: list[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = servers[1].memory
    rounds: list[int] = []

    def interrupt_third() -> int:
        rounds.append(1)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return original()

    servers[1].memory = interrupt_third  # type: ignore[method-assign]
    assert run(tmp_path, "--rounds", "1000") == 130
    out, error = capsys.readouterr()
    assert error.splitlines()[-1] == "benchmarks: interrupted in round 3 of 1000"
    report = read_report(tmp_path / "report.json")
    assert report.rounds == 2
    assert "rounds: 2," in out
    assert [server.stopped for server in servers] == [True, True]


def test_a_generator_that_is_the_bottleneck_is_said(
    servers: list[StandIn],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # the stand-ins' threads are of this process, too
    monkeypatch.setattr(runs, "process_time", lambda: 0.0)
    assert run(tmp_path) == 0
    assert "the generator's core" not in capsys.readouterr().out
    monkeypatch.setattr(runs, "process_time", perf_counter)
    assert run(tmp_path) == 0
    warnings = [
        line for line in capsys.readouterr().out.splitlines() if "generator's core was" in line
    ]
    assert len(warnings) == 2
    assert "the generator's core was 100% busy" in warnings[0]
    assert "of the floor: the generator's core was 100% busy" in warnings[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--concurrency", "0"], "'0' is no whole number from 1 to 99999"),
        (["--size", "-1"], "'-1' is no whole number"),
        (["--size", "two"], "'two' is no whole number"),
        (["--size", "1000000"], "'1000000' is no whole number"),
        (["--rounds", "\u0663\u0663\u0663\u0663\u0663\u0663"], "is no whole number"),
        (["--backend", "curio"], "invalid choice: 'curio'"),
        (["--server", "apache"], "invalid choice: 'apache'"),
        (["--application", "nginx"], "invalid choice: 'nginx'"),
        (["--store", "redis"], "invalid choice: 'redis'"),
        (["--environments", "0"], "'0' is no whole number from 1"),
        (["--open-sessions", "-1"], "'-1' is no whole number from 0"),
        (["start", "--backend", "curio"], "invalid choice: 'curio'"),
        (["--protocol", "2024-11-05"], "invalid choice: '2024-11-05'"),
        (["compare", "a.json"], "the following arguments are required: b"),
        (["no-such-benchmark"], "invalid choice: 'no-such-benchmark'"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_what_does_not_go_together_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--server", "uvicorn", "--backend", "trio"]) == 2
    assert "uvicorn runs on asyncio alone" in capsys.readouterr().err
    assert command.main(["--application", "sketch", "--store", "sqlite"]) == 2
    assert "the sketch has one environment, in memory" in capsys.readouterr().err
    monkeypatch.setattr(command, "has_uvicorn", lambda: False)
    assert command.main(["--server", "uvicorn"]) == 2
    assert "pip install 'gymhost[uvicorn]'" in capsys.readouterr().err


def test_a_report_that_can_not_be_written_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "missing" / "report.json"
    assert command.main(["--json", str(path)]) == 2
    assert (
        capsys.readouterr().err
        == f"benchmarks: {path} can't be written: No such file or directory.\n"
    )


def test_the_tables_are_printed_though_the_report_can_no_longer_be_written(
    servers: list[StandIn], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    original = servers[0].memory

    def remove() -> int:
        folder.rmdir()
        return original()

    servers[0].memory = remove  # type: ignore[method-assign]
    assert run(folder) == 1
    out, error = capsys.readouterr()
    assert "Server CPU of an episode" in out
    assert "written to" not in out
    assert error.splitlines()[-1].endswith("can't be written: No such file or directory.")


def test_a_report_goes_to_a_folder_of_its_own_where_nothing_is_said(
    servers: list[StandIn],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(ARGUMENTS) == 0
    (path,) = (tmp_path / ".cache" / "bench").iterdir()
    assert json.loads(path.read_text())["schema_version"] == 1
    name = path.relative_to(tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"written to {name}: make bench-compare OTHER {name}"


def test_the_benchmark_of_many_environments_is_one_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(many_environments, "SIZES", (1, 3))
    monkeypatch.setattr(many_environments, "CALLS", 2)
    path = tmp_path / "figures.json"
    assert command.main(["environments", "--rounds", "1", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())["many_environments"]
    assert {backend: set(rows) for backend, rows in figures.items()} == {
        "asyncio": {"1", "3"},
        "trio": {"1", "3"},
    }
