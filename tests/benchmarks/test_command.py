"""`python -m benchmarks` against the real server, and what make passes on to it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.cells import QUICK, UVICORN
from benchmarks.figures import STEPS, read_report
from benchmarks.servers import has_uvicorn

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks"]


# the servers' start takes ten CPU seconds
@pytest.mark.timeout(240)
def test_a_quick_run_rewards_every_episode_on_every_server(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    ran = subprocess.run(
        [*COMMAND, "--quick", "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    report = read_report(path)
    cells = [cell for cell in QUICK if has_uvicorn() or cell.server != UVICORN]
    assert [result.cell for result in report.results] == cells
    for result in report.results:
        assert result.failures == {}
        assert result.episodes >= 32
        found = result.measured
        assert found is not None
        assert found.cpu_ms.median > 0
        assert found.floor_cpu_ms.median > 0
        assert found.rss_mb.median > 30
        assert set(found.latency_ms) == set(STEPS)
    assert {"gymhost", "hypercorn", "mcp"} <= set(report.machine.versions)
    assert report.machine.python.startswith("CPython 3.")
    assert str(ROOT) not in path.read_text()
    tables = ran.stdout.split("\n\n")
    assert len(tables) == 5  # where, costs, latencies, targets, file
    for line, cell in zip(tables[1].splitlines()[2:], cells, strict=True):
        name = [cell.server, cell.backend, "2025-06-18", "16", "2", *cell.holds]
        assert line.split()[: len(name)] == name
    assert "asyncio, 16 at once: CPU, of the floor's" in tables[3]
    assert "asyncio, 16 at once: CPU with sqlite, of that with memory" in tables[3]
    assert ran.stderr.splitlines()[-1].startswith(f"round 1: {cells[-1]}: ")
    assert str(path) in tables[4]


@pytest.mark.timeout(120)
def test_a_signal_stops_the_servers_and_shows_what_was_finished(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    one = ["--backend", "asyncio", "--server", "hypercorn", "--concurrency", "4"]
    arguments = ["--quick", *one, "--rounds", "9999", "--json", str(path)]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("round 1"):
                break
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2  # the host and its floor
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted in round" in error
    assert "Traceback" not in error
    assert "Server CPU of an episode" in out
    assert read_report(path).results
    assert not any(child.is_running() for child in children)


def test_make_gives_the_two_files_to_compare() -> None:
    make = shutil.which("make")
    assert make is not None
    # --dry-run: nothing is installed, whatever the stamps say
    ran = subprocess.run(
        [make, "--dry-run", "bench-compare", "before.json", "/tmp/after.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "python -m benchmarks compare before.json /tmp/after.json\n" in ran.stdout
