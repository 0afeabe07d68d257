"""Every store that the contract is held to. A new one is one more line in STORES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from gymhost.stores import SessionStore, open_store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SessionStore]:
    store = open_store(url)
    await store.open()
    yield store
    await store.aclose()


STORES: dict[str, Callable[[], AbstractAsyncContextManager[SessionStore]]] = {
    "memory": lambda: opened("memory://"),
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[SessionStore]:
    async with STORES[request.param]() as opened_store:
        yield opened_store
