"""The benchmark of starts, against real ones; how many of each is smaller here."""

from __future__ import annotations

import json
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from benchmarks import start
from benchmarks.__main__ import main
from benchmarks.crowd import install_crowd
from benchmarks.servers import Cores, Server, ServerDied
from gymhost import collecting

LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(sys.argv[2].encode())
        connection.recv(1)
"""


# eight servers one after another
@pytest.mark.timeout(240)
def test_starts_environments_and_sessions_are_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Cores, "pin_generator", lambda self: None)
    monkeypatch.setattr(start, "MANY", 5)
    monkeypatch.setattr(start, "HUNDRED", "3 environments")
    monkeypatch.setattr(start, "OPEN", (10, 60))
    path = tmp_path / "figures.json"
    arguments = ["start", "--rounds", "1", "--backend", "asyncio", "--json", str(path)]
    assert main(arguments) == 0
    figures = json.loads(path.read_text())["start"]["asyncio"]
    kinds = ["imports alone", *(f"{n} environment{'s' * (n > 1)}" for n in (1, 2, 3, 5))]
    assert list(figures)[: len(kinds)] == kinds
    for kind in kinds:
        assert figures[kind]["seconds"]["median"] > 0
        assert figures[kind]["cpu"]["median"] > 0
        assert figures[kind]["memory"]["median"] > 20
    memory = [figures[kind]["memory"]["median"] for kind in kinds]
    assert figures["MB above"] == pytest.approx(memory[2] - memory[0])
    assert figures["environment MB"] == pytest.approx((memory[4] - memory[1]) / 4)
    assert figures["hundred s"] == figures["3 environments"]["seconds"]["median"]
    out, error = capsys.readouterr()
    assert "asyncio: one open session without calls: KB" in out
    assert len(error.splitlines()) == 2


def test_no_start_compiles_what_is_served() -> None:
    compiled = Path(cache_from_source(collecting.__file__))
    compiled.unlink(missing_ok=True)
    start.compile_sources()
    assert compiled.exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import sys; print('no luck', file=sys.stderr); sys.exit(3)", "ended with 3.\n  no luck"),
        (LISTEN, "the test server answered b'HTTP/1.1 503 Busy"),
    ],
)
def test_a_start_without_a_good_answer_is_an_error(source: str, said: str) -> None:
    port = start._free_port()
    answer = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    command = [sys.executable, "-c", source, str(port), answer]
    with Server("test", command, "key") as server:
        with pytest.raises(ServerDied) as caught:
            start.first_answer(server, port)
    assert said in str(caught.value)


def test_a_start_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "START_SECONDS", 0.3)
    command = [sys.executable, "-c", "while True: pass"]
    with Server("test", command, "key") as server:
        with pytest.raises(ServerDied, match="gave no answer in time"):
            start.first_answer(server, start._free_port())


def test_each_environment_of_a_crowd_is_a_distribution_of_its_own(tmp_path: Path) -> None:
    folder = install_crowd(tmp_path / "site", 3)
    assert len(list(folder.glob("*.dist-info/entry_points.txt"))) == 3
    assert len(list(folder.glob("gym_env_crowd_*.py"))) == 3
    assert len(list(folder.glob("__pycache__/*.pyc"))) == 3  # a start does not compile them
