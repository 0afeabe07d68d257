"""Servers that hold more than the episodes: a crowd of environments, open sessions, a store."""

from __future__ import annotations

import pytest

from benchmarks.cells import MODERN, SERVERS, SKETCH, SQLITE, Cell, Setup
from benchmarks.counts import check_counts
from benchmarks.errors import BenchmarkError
from benchmarks.runs import Run, open_sessions
from benchmarks.servers import Cores, gymhost_server


@pytest.mark.timeout(120)
def test_a_crowd_is_mounted_and_sessions_stay_open_beside_the_episodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Cores, "pin_generator", lambda self: None)
    told: list[str] = []
    cell = Cell(backend="asyncio", store=SQLITE, environments=4, open_sessions=20, concurrency=4)
    measured = Run([cell, cell.on(protocol=MODERN)], Cores(), seconds=0.0, tell=told.append)
    try:
        measured.round(0)
        setup = cell.setup
        (track, _) = measured._tracks  # whether they are still open is the server's to say
        check_counts(track.server, setup)
        for wrong in ({"environments": 5}, {"open_sessions": 21}):
            with pytest.raises(BenchmarkError, match=r"\d+ \w+( \w+)?, and \d+ were due"):
                check_counts(track.server, setup.model_copy(update=wrong))
    finally:
        measured.close()
    assert len(told) == Run.steps([cell, cell.on(protocol=MODERN)], 1)
    for result in measured.results():
        assert result.failures == {}
        assert result.episodes >= 32


@pytest.mark.timeout(120)
@pytest.mark.parametrize("server", SERVERS)
def test_the_sketch_plays_the_episodes_that_gymhost_plays(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cores, "pin_generator", lambda self: None)
    cell = Cell(backend="asyncio", server=server, application=SKETCH, kilobytes=64, concurrency=4)
    measured = Run([cell], Cores(), seconds=0.0)
    try:
        measured.round(0)
    finally:
        measured.close()
    (result,) = measured.results()
    assert result.failures == {}
    assert result.episodes >= 32


def test_sessions_that_can_not_be_opened_are_said() -> None:
    with gymhost_server(Setup(backend="asyncio")) as server:
        server.wait(Cores())
        server.key = "another"
        with pytest.raises(BenchmarkError, match=r"opens no sessions: seed: HTTP 401 \(3\)"):
            open_sessions(server, 3)
        with pytest.raises(BenchmarkError, match="GET /envs answered 401"):
            check_counts(server, Setup(backend="asyncio"))
        server.address = ("127.0.0.1", 1)
        with pytest.raises(BenchmarkError, match="GET /envs was not answered"):
            check_counts(server, Setup(backend="asyncio"))
