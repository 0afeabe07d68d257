"""A server that has seen thousands of sessions is as it was: memory, threads, descriptors, rows.

Sessions are verified, closed, abandoned unused, abandoned in use, and expire; some are pinned, and
hold a descriptor and a task; some tools crash, and some overstay in a thread. After each round the
server is left alone until all of them are forgotten, and is measured. A first round warms it up.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import httpx2

from benchmarks.errors import BenchmarkError
from benchmarks.servers import Cores, Server
from gymhost.http.mcp import TOKEN_HEADER

STORES = ("memory://", "sqlite:///soak.db")
SESSIONS = 400
AT_ONCE = 32
QUIET_SECONDS = 60.0
IDLE_SECONDS = 11.0
GROWTH = 4.0
"""MB that the server may have grown by from the second round on: an allocator is no exact thing."""


@dataclass(frozen=True, slots=True)
class Level:
    """What the server holds while nothing is open."""

    memory: float
    """MB resident."""
    threads: int
    descriptors: int
    rows: int
    """Sessions that the store knows."""

    def above(self, warm: Level, first: Level) -> list[str]:
        """Say in which way this is more than after the warm-up; memory, than after a round."""
        found = []
        if self.memory - first.memory > GROWTH:
            found.append(f"{self.memory - first.memory:.1f} MB of memory")
        for name in ("threads", "descriptors", "rows"):
            more = getattr(self, name) - getattr(warm, name)
            if more > 0:
                found.append(f"{more} {name}")
        return found


class Soak:
    """One server, and what is done to it."""

    def __init__(self, server: Server) -> None:
        host, port = server.address
        self._server = server
        self._http = httpx2.AsyncClient(
            base_url=f"http://{host}:{port}",
            headers={"authorization": f"Bearer {server.key}"},
            timeout=60,
        )

    async def rounds(self, number: int) -> list[Level]:
        """Soak it, and measure it after each round."""
        async with self._http:
            levels = []
            for _ in range(number):
                await self._round()
                levels.append(await self._quiet())
            return levels

    async def _round(self) -> None:
        limiter = anyio.CapacityLimiter(AT_ONCE)
        ends = cycle(("verify", "close", "leave", "crash", "unused", "oversleep", "thread"))
        async with anyio.create_task_group() as tasks:
            for number in range(SESSIONS):
                environment = "pinned" if number % 3 == 0 else "plain"
                tasks.start_soon(self._session, limiter, environment, next(ends))

    async def _session(self, limiter: anyio.CapacityLimiter, environment: str, end: str) -> None:
        async with limiter:
            seeded = await self._post(f"/envs/{environment}/seed_session", {})
            token = seeded["mcp"]["headers"][TOKEN_HEADER]
            session = {"session_id": seeded["session_id"]}
            if end == "unused":
                return
            await self._call(environment, token, "write", note="one")
            match end:
                case "verify":
                    verdict = await self._post(f"/envs/{environment}/verify", session)
                    if verdict["reward"] != 1.0:
                        raise BenchmarkError(f"the reward is {verdict['reward']}, not 1.0")
                case "close":
                    await self._post(f"/envs/{environment}/close_session", session)
                case "crash" | "oversleep":
                    await self._call(environment, token, end)
                case "thread":
                    await self._call(environment, token, "write_in_a_thread", note="two")

    async def _call(self, environment: str, token: str, tool: str, **arguments: str) -> None:
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        await self._post(f"/envs/{environment}/mcp", message, {TOKEN_HEADER: token})

    async def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        response = await self._http.post(path, json=body, headers=headers)
        if response.status_code != 200:
            raise BenchmarkError(f"{path} answered {response.status_code}: {response.text}")
        return response.json()

    async def _quiet(self) -> Level:
        """Wait until everything is over and forgotten, and measure.

        Raises: BenchmarkError: it is not.
        """
        await self._forgotten()
        # anyio lets a thread go that has idled for ten seconds, at the next call of one
        await anyio.sleep(IDLE_SECONDS)
        await self._session(anyio.CapacityLimiter(1), "plain", "thread")
        return await self._forgotten()

    async def _forgotten(self) -> Level:
        deadline = monotonic() + QUIET_SECONDS
        while True:
            rows = len((await self._get("/sessions?limit=1000"))["sessions"])
            uses = [each["use"] for each in (await self._get("/envs"))["environments"]]
            open_ = sum(use["open_sessions"] + use["threads"] for use in uses)
            if rows == open_ == 0:
                return Level(
                    self._server.memory() / 2**20,
                    self._server.threads(),
                    self._server.descriptors(),
                    rows,
                )
            if monotonic() > deadline:
                raise BenchmarkError(
                    f"after {QUIET_SECONDS:.0f} s, {rows} sessions are not forgotten: {uses}"
                )
            await anyio.sleep(0.5)

    async def _get(self, path: str) -> Any:
        response = await self._http.get(path)
        response.raise_for_status()
        return response.json()


def soak_server(backend: str, store: str) -> Server:
    """Begin the server that is soaked."""
    script = str(Path(__file__).with_name("soak_server.py"))
    return Server(backend, [sys.executable, script, backend, store], secrets.token_urlsafe(32))


def main(rounds: int, backends: Sequence[str]) -> bool:
    """Soak a server for each loop and store, print what it held, and say whether all came back."""
    print(f"{SESSIONS} sessions a round, {AT_ONCE} at once; what the server holds after each")
    print(f"{'loop':8} {'store':8} {'round':>5} {'MB':>7} {'threads':>8} {'fds':>5} {'rows':>5}")
    good = True
    for backend in backends:
        for store in STORES:
            with soak_server(backend, store) as server:
                server.wait(Cores())
                levels = anyio.run(partial(Soak(server).rounds, rounds + 1))
            name = store.partition(":")[0]
            for number, level in enumerate(levels):
                print(
                    f"{backend:8} {name:8} {number or 'warm':>5} {level.memory:7.1f} "
                    f"{level.threads:8} {level.descriptors:5} {level.rows:5}"
                )
            more = levels[-1].above(*levels[:2])
            if more:
                good = False
                print(f"{backend} {name}: it holds {', '.join(more)} more than at the start")
    return good
