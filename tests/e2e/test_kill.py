"""`kill -9` in the middle of many episodes loses nothing that was acknowledged."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from signal import SIGKILL

import anyio
import pytest
from anyio import to_thread

from tests.e2e.crowd import KEY, Crowd
from tests.e2e.journal import Journal
from tests.e2e.servers import STACKS, Server, Servers

logger = logging.getLogger(__name__)

KILLS = 12
CLIENTS = 64
IN_FLIGHT = 32
ACKNOWLEDGED = 0.05
"""Seconds before the kill in which something was acknowledged, at least."""

FORGETFUL = str(Path(__file__).with_name("forgetful.py"))


class Killed:
    """A server that is killed and started again, at one port, over one store."""

    def __init__(self, servers: Servers, command: tuple[str, ...] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._servers = servers
        self._command = command
        self._started = 0
        self.server: Server | None = None

    async def start(self) -> None:
        """Start it, on each server and event loop in turn: they share a store."""
        stack = list(STACKS.values())[self._started % len(STACKS)]
        self._started += 1
        store = f"sqlite:///{self._servers.folder}/sessions.db"
        arguments = ("--port", str(self.port), "--store", store, *stack)
        self.server = await to_thread.run_sync(
            partial(self._servers.start, *arguments, command=self._command, GYMHOST_API_KEY=KEY)
        )

    def crowd(self, journal: Journal, random_seed: int = 0) -> Crowd:
        return Crowd(f"http://127.0.0.1:{self.port}", journal, random_seed)

    def kill(self) -> None:
        assert self.server is not None
        self.server.send(SIGKILL)
        assert self.server.wait() == -SIGKILL


@asynccontextmanager
async def crowd(killed: Killed, journal: Journal, random_seed: int) -> AsyncGenerator[Crowd]:
    """A crowd at play. At the end it stops and all its requests are answered."""
    async with killed.crowd(journal, random_seed) as made, anyio.create_task_group() as playing:
        for _ in range(CLIENTS):
            playing.start_soon(made.play)
        yield made
        made.stopping = True


async def kill_at_a_random_moment(killed: Killed, players: Crowd) -> None:
    """Kill the server while many requests are in flight, right after something was answered."""
    moment = time.monotonic() + players.random.uniform(0.3, 1.2)
    while (  # noqa: ASYNC110 - nobody could set an event at a random moment
        time.monotonic() < moment
        or players.in_flight < IN_FLIGHT
        or time.monotonic() - players.acknowledged_at > ACKNOWLEDGED
    ):
        await anyio.sleep(0.001)
    players.up = anyio.Event()
    killed.kill()


async def losses(players: Crowd, journal: Journal) -> dict[str, list[str]]:
    """Return what was acknowledged, by the journal on disk, and is not in the server's records."""
    found = {}
    for session, owed in journal.acknowledged().items():
        lacking = owed.losses(await players.record(session))
        if lacking:
            found[session] = lacking
    return found


@pytest.fixture
def journal(servers: Servers) -> Iterator[Journal]:
    with Journal(servers.folder / "journal") as opened:
        yield opened


@pytest.mark.timeout(300)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the client's; the server's alternate
async def test_nothing_acknowledged_is_lost_by_kill_9(servers: Servers, journal: Journal) -> None:
    killed = Killed(servers)
    await killed.start()
    async with crowd(killed, journal, random_seed=4) as players:
        for _ in range(KILLS):
            await kill_at_a_random_moment(killed, players)
            await killed.start()
            players.up.set()
    owed = journal.acknowledged()
    went_on = 0
    async with killed.crowd(journal) as visitor:
        assert await losses(visitor, journal) == {}
        for session, acknowledged in owed.items():
            record = await visitor.record(session)
            assert record is not None
            if record["status"] == "open":  # its token still opens it, and its state is there
                await visitor.say(acknowledged.token, "at the end")
                went_on += 1
            else:
                assert record["status"] == "verified"
    calls = sum(len(each.texts) for each in owed.values())
    verdicts = sum(len(each.verdicts) for each in owed.values())
    logger.info("acknowledged: %d seeds, %d calls, %d verdicts", len(owed), calls, verdicts)
    logger.info("%d sessions went on; calls unanswered: %s", went_on, players.resolved)
    assert min(len(owed), calls, verdicts) > CLIENTS
    assert went_on > 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_store_that_does_not_commit_is_caught(servers: Servers, journal: Journal) -> None:
    killed = Killed(servers, (sys.executable, FORGETFUL, "serve"))
    await killed.start()
    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="is lost|a seed"),
        allow_unwrapped=True,
        flatten_subgroups=True,
    ):
        async with crowd(killed, journal, random_seed=5) as players:
            await kill_at_a_random_moment(killed, players)
            await killed.start()
            assert await losses(players, journal) == {}
