"""Whether the session store can be written, asked at most once a second."""

from __future__ import annotations

import logging

import anyio

from gymhost.clock import Clock
from gymhost.errors import StoreError, StoreReason
from gymhost.stores import SessionStore

__all__ = ["StoreHealth"]

logger = logging.getLogger("gymhost.store")

# /readyz needs no key, and each check is a write: its number is not for anybody to choose.
FRESH_SECONDS = 1.0
# More than a store waits for another program's lock: then the answer says that it is locked.
CHECK_SECONDS = 6.0


class StoreHealth:
    """Remembers how the last check ended. Those who ask meanwhile share one check."""

    def __init__(self, store: SessionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = anyio.Lock()
        self._checked_at: float | None = None
        self._failure: StoreReason | None = None

    async def failure(self) -> StoreReason | None:
        """Return what is wrong with the store; None where nothing is."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._checked_at is None or now - self._checked_at >= FRESH_SECONDS:
                failure = await self._check()
                self._checked_at = self._clock.monotonic()
                if self._failure is not None and failure is None:
                    logger.info("the session store works again")
                self._failure = failure
        return self._failure

    async def _check(self) -> StoreReason | None:
        with anyio.move_on_after(CHECK_SECONDS):
            try:
                await self._store.check()
            except StoreError as exc:
                if exc.reason != self._failure:  # not once a second
                    logger.error("the session store fails: %s", exc)
                return exc.reason
            return None
        logger.error("the session store has not answered for %g s", CHECK_SECONDS)
        return "stalled"
