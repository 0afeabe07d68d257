"""Every store that the contract is held to. A new one is one more line in STORES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gymhost.stores import SessionStore, open_store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SessionStore]:
    store = open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


STORES: dict[str, Callable[[Path], AbstractAsyncContextManager[SessionStore]]] = {
    "memory": lambda folder: opened("memory://"),
    "sqlite": lambda folder: opened(f"sqlite:///{folder}/sessions.db"),
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    async with STORES[request.param](tmp_path) as opened_store:
        yield opened_store
