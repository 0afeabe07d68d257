"""A tool call costs the same with 1 and with 1,000 mounted environments.

The application is called in-process, one call after another, without sockets or a client: what is
measured is gymhost alone. The sizes take turns, round by round, so that a machine that slows down
slows all of them; each round's figure is CPU time of one call, and the ratio is taken in the round.
"""

import resource
import time
from statistics import median
from typing import Any

import anyio
import pydantic_core

from gymhost import Environment, Session, Trajectory, tool
from gymhost.host import Host
from gymhost.http.app import GymhostApp, create_app
from gymhost.http.auth import KeyGuard
from gymhost.http.mcp import TOKEN_HEADER

SIZES = (1, 10, 100, 1000)
CALLS = 200


class Echo(Environment):
    """One trivial tool."""

    @tool
    async def echo(self, text: str) -> str:
        """Return the text."""
        return text

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float(bool(session.calls))


class Application:
    """The application with a number of environments, and how to call it."""

    def __init__(self, size: int) -> None:
        names = [f"echo-{number:04}" for number in range(size)]
        begun, memory = time.process_time(), resident()
        self.app: GymhostApp = create_app(
            Host(dict.fromkeys(names, Echo), discover=False), KeyGuard(["key"])
        )
        self.size = size
        self.name = names[-1]  # the worst place in any list
        self._begun, self._memory = begun, memory

    def started(self) -> tuple[float, float]:
        """CPU seconds and MB that loading and starting took."""
        return time.process_time() - self._begun, (resident() - self._memory) / 1024

    async def post(self, path: str, body: Any, headers: dict[str, str]) -> Any:
        """Send one request straight into the application."""
        raw = pydantic_core.to_json(body)
        sent: list[Any] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [
                (b"host", b"localhost"),
                (b"accept", b"application/json"),
                (b"content-type", b"application/json"),
                *((name.lower().encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        assert sent[0]["status"] == 200, sent
        return pydantic_core.from_json(sent[1]["body"])

    async def measure(self) -> float:
        """CPU microseconds of one tool call, in one session of the last environment."""
        key = {"authorization": "Bearer key"}
        seeded = await self.post(f"/envs/{self.name}/seed_session", {}, key)
        token = {TOKEN_HEADER: seeded["mcp"]["headers"][TOKEN_HEADER]}
        call = {"name": "echo", "arguments": {"text": "hello"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        begun = time.process_time()
        for _ in range(CALLS):
            answer = await self.post(f"/envs/{self.name}/mcp", body, token)
            assert answer["result"]["content"][0]["text"] == "hello", answer
        spent = time.process_time() - begun
        verdict = await self.post(
            f"/envs/{self.name}/verify", {"session_id": seeded["session_id"]}, key
        )
        assert verdict["reward"] == 1.0, verdict
        return spent / CALLS * 1e6


def resident() -> int:
    """The process's peak memory in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def run(rounds: int) -> dict[str, Any]:
    figures: dict[int, list[float]] = {size: [] for size in SIZES}
    starts: dict[int, tuple[float, float]] = {}
    async with anyio.create_task_group() as serving:
        applications = []
        for size in SIZES:
            application = Application(size)
            ready = anyio.Event()

            async def serve(application: Application = application, ready: Any = ready) -> None:
                async with application.app.router.lifespan_context(application.app):
                    ready.set()
                    await anyio.sleep_forever()

            serving.start_soon(serve)
            await ready.wait()
            starts[size] = application.started()
            applications.append(application)
            await application.measure()  # a warm-up
        for _ in range(rounds):
            for application in applications:
                figures[application.size].append(await application.measure())
        serving.cancel_scope.cancel()
    one = figures[SIZES[0]]
    return {
        str(size): {
            "call_us": round(median(found), 1),
            "ratio_to_one": round(median(a / b for a, b in zip(found, one, strict=True)), 3),
            "start_cpu_s": round(starts[size][0], 3),
            "start_mb": round(starts[size][1], 1),
        }
        for size, found in figures.items()
    }


def main(rounds: int) -> dict[str, Any]:
    """Measure on both event loops and print a table."""
    figures = {}
    print(f"One tool call in-process, {rounds} rounds of {CALLS} calls, CPU time, medians")
    print(f"{'loop':8} {'environments':>12} {'us/call':>8} {'ratio':>6} {'start s':>8} {'MB':>7}")
    for backend in ("asyncio", "trio"):
        figures[backend] = anyio.run(run, rounds, backend=backend)
        for size, row in figures[backend].items():
            print(
                f"{backend:8} {size:>12} {row['call_us']:8.1f} {row['ratio_to_one']:6.3f} "
                f"{row['start_cpu_s']:8.3f} {row['start_mb']:7.1f}"
            )
    return figures
