"""Sqlite stores whose connection a test can reach, and whose thread it can hold up."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from gymhost.stores.sqlite import SqliteStore, SqliteUrl
from gymhost.stores.sqlite.database import Database
from gymhost.threads import EventLoop


class OpenStore(SqliteStore):
    """A store that waits a moment for locks, and has its `database` in reach."""

    database: Database

    def __init__(self, path: Path, **options: str) -> None:
        super().__init__(SqliteUrl(path, **options), busy_seconds=0.05)
        opening = self._commits._open_database

        def keep() -> Database:
            self.database = opening()
            return self.database

        self._commits._open_database = keep

    async def hold_up(self, tasks: TaskGroup) -> threading.Event:
        """Keep the thread busy until the event is set, at most a while."""
        held, release = anyio.Event(), threading.Event()
        loop = EventLoop()

        def hold(db: Database) -> None:
            loop.call_soon(held.set)
            release.wait(10)

        tasks.start_soon(self._commits.write, hold)
        await held.wait()
        return release


@asynccontextmanager
async def opened(path: Path, **options: str) -> AsyncIterator[OpenStore]:
    store = OpenStore(path, **options)
    with anyio.fail_after(20):
        await store.open()
        try:
            yield store
        finally:
            await store.aclose()
