"""Servers under test: how they start, how they are looked after, and what they leave behind."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks import servers
from benchmarks.cells import Setup
from benchmarks.servers import Cores, Server, ServerDied, gymhost_server

UP = "print('up on http://127.0.0.1:4711', flush=True)\n"
WAIT = "import time\nwhile True: time.sleep(60)\n"


@contextmanager
def started(source: str, key: str = "key") -> Iterator[Server]:
    with Server("test", [sys.executable, "-c", source], key) as server:
        server.wait(Cores())
        yield server


def test_a_server_is_up_when_it_says_where_and_is_ended_at_the_end() -> None:
    with started("print('loading')\n" + UP + "while True: pass") as server:
        assert server.address == ("127.0.0.1", 4711)
        process = psutil.Process(server._process.pid)
        used = server.cpu()
        while server.cpu() <= used:
            pass  # it spins
        assert server.memory() > 2**20
        server.check()
    assert not process.is_running()


def test_nothing_of_this_users_configuration_reaches_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GYMHOST_STORE", "sqlite:///precious.db")
    monkeypatch.setenv("GYMHOST_API_KEY", "the user's")
    monkeypatch.setenv("HARMLESS", "kept")
    seen = tmp_path / "seen.json"
    look = (
        "import json, os, pathlib\n"
        "seen = [dict(os.environ), os.getcwd(), pathlib.Path('gymhost.yaml').read_text()]\n"
        f"pathlib.Path({str(seen)!r}).write_text(json.dumps(seen))\n"
    )
    with started(look + UP + WAIT, "its own"):
        pass
    variables, folder, config = json.loads(seen.read_text())
    assert variables["GYMHOST_API_KEY"] == "its own"
    assert variables["HARMLESS"] == "kept"
    assert {name for name in variables if name.startswith("GYMHOST_")} == {"GYMHOST_API_KEY"}
    assert Path(folder) != Path.cwd()
    assert not Path(folder).exists()
    assert "weather" not in json.loads(config)["blocked"]


def test_a_server_may_say_more_than_a_pipe_holds() -> None:
    source = UP + "import sys\nprint('x' * 200_000, flush=True)\nsys.exit(5)"
    with started(source) as server:
        with pytest.raises(ServerDied, match="ended with 5"):
            server.check(20)


def test_what_it_imports_from_comes_before_what_this_user_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source = UP + f"import sys, pathlib\npathlib.Path({str(tmp_path / 'seen')!r})"
    source += ".write_text('\\n'.join(sys.path))\n" + WAIT.replace("while", "sys.exit(5)\nwhile")
    command = [sys.executable, "-c", source]
    with Server("test", command, "key", paths=[Path("/extra")], crowd=1) as server:
        with pytest.raises(ServerDied, match="ended with 5"):
            server.check(20)
    extra, crowd, usual = (tmp_path / "seen").read_text().splitlines()[1:4]
    assert (extra, usual) == ("/extra", str(tmp_path))
    assert crowd.endswith("/site")


def test_a_server_that_does_not_start_says_why() -> None:
    source = "import sys\nfor n in range(40): print('line', n, file=sys.stderr)\nsys.exit(3)"
    with pytest.raises(ServerDied) as caught, started(source):
        pass
    first, *tail = str(caught.value).splitlines()
    assert first == "the test server did not start: it ended with 3."
    assert tail == [f"  line {n}" for n in range(25, 40)]


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 0.5)
    with pytest.raises(ServerDied, match=r"it was killed after 0 seconds\. It logged nothing"):
        with started(WAIT):
            pass


def test_a_command_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/bin/python")
    with pytest.raises(ServerDied, match="/nowhere/bin/gymhost can't be run: No such file"):
        gymhost_server(Setup(backend="asyncio"))


def test_a_server_that_has_ended_is_found_out_with_what_it_logged() -> None:
    source = UP + "import sys\nprint('out of luck', file=sys.stderr)\nsys.exit(5)"
    with started(source) as server:
        with pytest.raises(ServerDied, match=r"the test server ended with 5\.\n  out of luck"):
            server.check(20)
        with pytest.raises(ServerDied):
            server.cpu()
        with pytest.raises(ServerDied):
            server.memory()


def test_a_server_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "STOP_SECONDS", 0.1)
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    with started(deaf + UP + WAIT) as server:
        process = psutil.Process(server._process.pid)
    assert not process.is_running()


def test_the_first_and_the_last_core_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 2, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None, raising=False)
    cores = Cores()
    assert (cores.generator, cores.server) == (2, 5)
    assert cores.note == "server on core 5, generator on core 2"


def test_a_server_is_kept_on_its_core(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, set[int]]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda pid, cores: pinned.append((pid, cores)), raising=False
    )
    threads = (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    with started(threads + UP + WAIT) as server:
        tids = {thread.id for thread in psutil.Process(server._process.pid).threads()}
        assert {tid for tid, _ in pinned} == tids
        assert all(cores == {1} for _, cores in pinned)
    Cores().pin_generator()
    assert pinned[-1] == (0, {0})


def test_one_core_and_no_pinning_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert Cores().note.startswith("one core for server and generator")
    monkeypatch.delattr(os, "sched_setaffinity")
    cores = Cores()
    assert cores.note.startswith("this system pins no process to a core")
    assert cores.generator is cores.server is None
    cores.pin_generator()
    with started(UP + WAIT):  # pins nothing
        pass
