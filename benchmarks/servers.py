"""The servers under test: processes of their own, on a core of their own."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from time import clock_gettime, perf_counter
from types import TracebackType
from typing import Any

import psutil

from benchmarks.cells import HYPERCORN, SKETCH, SQLITE, Setup
from benchmarks.crowd import install_crowd
from benchmarks.errors import BenchmarkError
from benchmarks.load import Address

ROOT = Path(__file__).parents[1]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
TAIL_LINES = 15
OPEN_LIMITS = {"open_sessions": 1_000_000, "unused_seconds": 86_400}
"""Of a server whose sessions are to stay open: more than 10,000, and longer than ten minutes."""


class ServerDied(BenchmarkError):
    """A server did not start, or ended. The text has the end of what it logged."""


class Cores:
    """Which core has the servers, and which the generator."""

    def __init__(self) -> None:
        self.server: int | None = None
        self.generator: int | None = None
        if not hasattr(os, "sched_setaffinity"):
            self.note = "this system pins no process to a core: server and generator may share one"
            return
        # The first and the last: neighbours in this order may be two threads of one core.
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            self.note = "one core for server and generator: rates and latencies hold the generator"
            return
        self.generator, self.server = allowed[0], allowed[-1]
        self.note = f"server on core {self.server}, generator on core {self.generator}"

    def pin_server(self, process: psutil.Process) -> None:
        """Keep a process on the servers' core."""
        if self.server is not None:
            for thread in process.threads():  # later ones get what these have
                os.sched_setaffinity(thread.id, {self.server})

    def pin_generator(self) -> None:
        """Keep this process on the generator's core."""
        if self.generator is not None:
            os.sched_setaffinity(0, {self.generator})


class Server:
    """A process that serves. It is begun here, and up after `wait`.

    Raises: ServerDied: it can't be run.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        key: str,
        *,
        paths: Sequence[Path] = (),
        crowd: int = 0,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        """`key` is the control key that it is to take.

        `paths` are what it imports from besides, `crowd` is how many environments are installed
        beside the one that is played, and `limits` are those of the latter.
        """
        self.name = name
        self.address: Address = ("127.0.0.1", 0)
        self.key = key
        self._folder = TemporaryDirectory(prefix="gymhost-bench-")
        folder = Path(self._folder.name)
        self._log = folder / "stderr"
        # Nothing of what this user has installed and configured: another plugin, a file, a
        # variable. JSON is YAML.
        others = {point.name for point in entry_points(group="gymhost")} - {"weather"}
        config: dict[str, Any] = {"blocked": sorted(others)}
        if limits:
            config["environments"] = {"weather": {"limits": dict(limits)}}
        (folder / "gymhost.yaml").write_text(json.dumps(config))
        kept = {k: value for k, value in os.environ.items() if not k.startswith("GYMHOST_")}
        if crowd:
            paths = [*paths, install_crowd(folder / "site", crowd)]
        if paths:
            usual = filter(None, [kept.get("PYTHONPATH")])
            kept["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *usual])
        self.begun = perf_counter()
        """When the process was run."""
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    env={**kept, "GYMHOST_API_KEY": key, "XDG_CONFIG_HOME": str(folder)},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        except OSError as exc:
            self._folder.cleanup()
            raise ServerDied(f"{command[0]} can't be run: {exc.strerror}.") from exc
        self._observed = psutil.Process(self._process.pid)
        self._ports: SimpleQueue[int | None] = SimpleQueue()
        # to the end: a thousand environments are more lines than a pipe holds
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def wait(self, cores: Cores) -> None:
        """Wait until it serves at `address`, and keep it on its core.

        Raises: ServerDied: it did not start.
        """
        self.address = ("127.0.0.1", self._find_port())
        self.pin(cores)

    def pin(self, cores: Cores) -> None:
        """Keep it on its core."""
        cores.pin_server(self._observed)

    def cpu(self) -> float:
        """CPU seconds that the process has used, of its own and in the kernel."""
        self.check()
        if sys.platform == "linux":
            # the process's own clock, as clock_getcpuclockid(3) makes its number: in nanoseconds,
            # where /proc, and psutil, count in hundredths of a second
            return clock_gettime(~self._process.pid << 3 | 2)
        times = self._observed.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Bytes of memory that the process has resident."""
        self.check()
        return int(self._observed.memory_info().rss)

    def threads(self) -> int:
        """Threads that the process has."""
        self.check()
        return int(self._observed.num_threads())

    def descriptors(self) -> int:
        """Files, sockets and pipes that the process has open."""
        self.check()
        return int(self._observed.num_fds())

    def check(self, patience: float = 0.0) -> None:
        """Look whether it is alive, and `patience` seconds later still.

        Raises: ServerDied: it is not.
        """
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return
        raise ServerDied(f"the {self.name} server ended with {code}.{self.tail()}")

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._reader.join()
            self._folder.cleanup()

    def _find_port(self) -> int:
        try:
            port = self._ports.get(timeout=START_SECONDS)
        except Empty:
            self._process.kill()
            why = f"it was killed after {START_SECONDS:.0f} seconds"
        else:
            if port is not None:
                return port
            why = f"it ended with {self._process.wait()}"
        raise ServerDied(f"the {self.name} server did not start: {why}.{self.tail()}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                found = re.search(r"http://\S+:(\d+)", line)
                if found is not None:
                    self._ports.put(int(found[1]))
        self._ports.put(None)

    def tail(self) -> str:
        """Return the end of what the server has logged, as further lines."""
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        return "".join(f"\n  {line}" for line in lines) or " It logged nothing."


def has_uvicorn() -> bool:
    """Whether the alternative server is installed: mcp brings uvicorn without a fast parser."""
    return all(find_spec(name) is not None for name in ("uvicorn", "httptools"))


def gymhost_server(setup: Setup, port: int = 0) -> Server:
    """Begin `gymhost serve`, or the sketch of it."""
    if setup.application == SKETCH:
        return _python_server("sketch", setup)
    script = str(Path(sys.executable).with_name("gymhost"))
    command = [script, "serve", "--port", str(port), "--backend", setup.backend]
    if setup.server != HYPERCORN:
        command += ["--server", setup.server]
    if setup.store == SQLITE:
        command += ["--store", "sqlite:///sessions.db"]  # in its own temporary folder
    limits = OPEN_LIMITS if setup.open_sessions else None
    key = secrets.token_urlsafe(32)
    return Server(str(setup), command, key, crowd=setup.environments - 1, limits=limits)


def importing_server(backend: str, port: int) -> Server:
    """Begin a process that imports what gymhost stands on, and nothing of gymhost."""
    script = str(Path(__file__).with_name("imports.py"))
    return Server("importing", [sys.executable, script, backend, str(port)], "no key")


def floor_server(setup: Setup) -> Server:
    """Begin the floor on the same server stack."""
    return _python_server("floor", setup)


def _python_server(module: str, setup: Setup) -> Server:
    name = f"{setup.stack} {module}"
    command = [sys.executable, "-m", f"benchmarks.{module}", setup.backend, setup.server]
    return Server(name, command, secrets.token_urlsafe(32), paths=[ROOT])
