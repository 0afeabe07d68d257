"""`gymhost serve` as a process of its own, and what its clients say to it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any

import httpx2

from tests import conformance
from tests.distributions import GATED, install, variables
from tests.http.wire import MODERN, call

BACKENDS = ["asyncio", "trio"]
Flags = tuple[str, ...]
STACKS: dict[str, Flags] = {
    "hypercorn-asyncio": ("--backend", "asyncio"),
    "hypercorn-trio": ("--backend", "trio"),
    "uvicorn": ("--server", "uvicorn"),
}
"""What `gymhost serve` can run on, and the flags that choose it."""
HTTP2 = [name for name in STACKS if name != "uvicorn"]
GYMHOST = str(Path(sys.executable).with_name("gymhost"))


class Server:
    """A process that serves. What it prints is in `lines`, what it logs in `log`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self.lines: list[str] = []
        self._read_until_up()
        address = re.search(r"http://\S+:(\d+)", self.lines[0])
        assert address is not None
        self.url, self.port = address[0], int(address[1])
        key = re.search(r"^control key: (\S+) \(kept", "\n".join(self.lines), re.MULTILINE)
        self.key = key[1] if key else None
        guarded = any(line.startswith("control key: ") for line in self.lines)
        conformance.watch(self.url, has_key=guarded, process=process)

    def _read_until_up(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(f"it ended with {self.process.wait()}:\n{self.lines}\n{self.log}")

    @property
    def is_uvicorn(self) -> bool:
        """Whether it is uvicorn, which has no HTTP/2."""
        return "(uvicorn, " in self.lines[0]

    @property
    def log(self) -> str:
        """What has been logged so far."""
        return self._log.read_text("utf-8")

    def client(self, **options: Any) -> httpx2.Client:
        """Return a client of the control plane."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=20, **options)

    def send(self, number: int = SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 20) -> int:
        """Wait for the process to end, and return its exit code."""
        code = self.process.wait(seconds)
        assert self.process.stdout is not None
        self.lines += self.process.stdout.read().splitlines()
        return code

    def stop(self, number: int = SIGTERM) -> int:
        """Send a signal, and wait for the process to end."""
        self.send(number)
        return self.wait()


class Servers:
    """Starts servers that see the distributions in a folder, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_log = folder / "life.log"
        self._started: list[subprocess.Popen[str]] = []

    def install_gated(self) -> None:
        """Install the environment whose code waits at gates."""
        install(self.folder, "gated", GATED, {"gated": "Gated"})

    def spawn(self, *arguments: str, command: tuple[str, ...] = (), **more: str) -> Spawned:
        """Start a process without waiting for it."""
        log = self.folder / f"server-{len(self._started)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*(command or (GYMHOST, "serve", "--port", "0")), *arguments],
                env=variables(self.folder, GATED_LOG=str(self.state_log), **more),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self._started.append(process)
        return process, log

    def start(self, *arguments: str, command: tuple[str, ...] = (), **more: str) -> Server:
        """Start a server and wait until it takes requests. `more` are environment variables."""
        return Server(*self.spawn(*arguments, command=command, **more))

    @property
    def life(self) -> list[str]:
        """The steps that the environment of `install_gated` has noted."""
        return self.state_log.read_text("utf-8").splitlines() if self.state_log.exists() else []

    def end(self) -> None:
        """Stop what still runs."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            try:
                process.wait(20)
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


Spawned = tuple[subprocess.Popen[str], Path]


def seed(http: httpx2.Client, environment: str = "gated", **metadata: Any) -> tuple[str, str]:
    """Start a session; return its id and its token."""
    answer = http.post(f"/envs/{environment}/seed_session", json={"verifier_metadata": metadata})
    assert answer.status_code == 200, answer.text
    seeded = answer.json()
    (token,) = seeded["mcp"]["headers"].values()
    return seeded["session_id"], token


def call_tool(
    http: httpx2.Client, token: str, name: str, *, environment: str = "gated", **arguments: Any
) -> Mapping[str, Any]:
    """Call a tool as an agent does, and return its result."""
    sent = call(MODERN, name, token, **arguments)
    headers = {key: value for key, value in sent.headers.items() if value is not None}
    answer = http.post(f"/envs/{environment}/mcp", content=sent.content, headers=headers)
    assert answer.status_code == 200, answer.text
    result: Mapping[str, Any] = answer.json()["result"]
    return result


def verify(http: httpx2.Client, session_id: str, environment: str = "gated") -> httpx2.Response:
    """Score a session."""
    return http.post(f"/envs/{environment}/verify", json={"session_id": session_id})
