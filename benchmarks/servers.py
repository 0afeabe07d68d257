"""The servers under test: processes of their own, on a core of their own."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from time import monotonic
from types import TracebackType

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.load import Address

START_SECONDS = 60.0
STOP_SECONDS = 15.0
TAIL_LINES = 15


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

    def __init__(self, name: str, command: Sequence[str], key: str) -> None:
        """`key` is the control key that it is to take."""
        self.name = name
        self.address: Address = ("127.0.0.1", 0)
        self.key = key
        self._folder = TemporaryDirectory(prefix="gymhost-bench-")
        folder = Path(self._folder.name)
        self._log = folder / "stderr"
        # Nothing of what this user has installed and configured: another plugin, a file, a
        # variable. JSON is YAML.
        others = {point.name for point in entry_points(group="gymhost")} - {"weather"}
        (folder / "gymhost.yaml").write_text(json.dumps({"blocked": sorted(others)}))
        kept = {k: value for k, value in os.environ.items() if not k.startswith("GYMHOST_")}
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
        self.address = ("127.0.0.1", self._read_port())
        cores.pin_server(self._observed)

    def cpu(self) -> float:
        """CPU seconds that the process has used, of its own and in the kernel."""
        self.check()
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
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._folder.cleanup()

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        begun = monotonic()
        timer = Timer(START_SECONDS, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout:
                found = re.search(r"http://\S+:(\d+)", line)
                if found is not None:
                    return int(found[1])
            code = self._process.wait()
        finally:
            timer.cancel()
        why = f"it ended with {code}"
        if monotonic() - begun >= START_SECONDS:
            why = f"it was killed after {START_SECONDS:.0f} seconds"
        raise ServerDied(f"the {self.name} server did not start: {why}.{self.tail()}")

    def tail(self) -> str:
        """Return the end of what the server has logged, as further lines."""
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        return "".join(f"\n  {line}" for line in lines) or " It logged nothing."


def gymhost_server(backend: str, server: str = "hypercorn") -> Server:
    """Begin `gymhost serve`."""
    script = str(Path(sys.executable).with_name("gymhost"))
    command = [script, "serve", "--port", "0", "--backend", backend, "--server", server]
    return Server(_name(backend, server), command, secrets.token_urlsafe(32))


def floor_server(backend: str, server: str = "hypercorn") -> Server:
    """Begin the floor on the same server stack."""
    command = [sys.executable, str(Path(__file__).with_name("floor.py")), backend, server]
    return Server(f"{_name(backend, server)} floor", command, secrets.token_urlsafe(32))


def _name(backend: str, server: str) -> str:
    return backend if server == "hypercorn" else server
