"""Run one environment's plain `def` code in threads of its own count."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import current_token

__all__ = ["EventLoop", "Threads"]

T = TypeVar("T")


class EventLoop:
    """The event loop of whoever makes it, which any thread can have call something."""

    def __init__(self) -> None:
        token = current_token()
        self._loop: Any = getattr(token, "native_token", token)  # anyio 4.10 returns it bare

    def call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call a function; the thread does not wait for it.

        `anyio.from_thread` would: for ever, and with it the process at its end, where the loop
        has stopped and is not closed.
        """
        soon = getattr(self._loop, "run_sync_soon", None) or self._loop.call_soon_threadsafe
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            soon(function, *arguments)


class Threads:
    """A number of threads that belongs to one environment, so that it can block no other.

    A thread can't be stopped: one whose caller has given up is `stuck` until it returns, and
    keeps its place till then.
    """

    def __init__(
        self,
        size: int,
        *,
        waits: Callable[[], None] = lambda: None,
        abandons: Callable[[], None] = lambda: None,
    ) -> None:
        """`waits` is called for each call that finds every place taken, `abandons` for each thread
        that its caller leaves to itself.
        """
        self._waits = waits
        self._abandons = abandons
        self._limiter = CapacityLimiter(size)
        # anyio gives a cancelled call's token back at once on asyncio, though its thread goes on;
        # so the places are counted here, and anyio's own limiter is one that never binds.
        self._unbounded = CapacityLimiter(math.inf)
        self._stuck = 0

    @property
    def in_use(self) -> int:
        """Threads at work, the stuck ones included."""
        return int(self._limiter.borrowed_tokens)

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._limiter.statistics().tasks_waiting

    @property
    def stuck(self) -> int:
        """Threads that still run though their caller has given up."""
        return self._stuck

    async def run(self, function: Callable[[], T]) -> T:
        """Await a function in a thread; when cancelled, leave the thread to itself."""
        place = _Place()
        if self._limiter.available_tokens < 1:
            self._waits()
        await self._limiter.acquire_on_behalf_of(place)
        try:
            (result,) = await to_thread.run_sync(
                self._run_and_leave,
                place,
                function,
                abandon_on_cancel=True,
                limiter=self._unbounded,
            )
            return result
        finally:
            if place.leave():
                self._stuck += 1
                self._abandons()
            else:
                self._limiter.release_on_behalf_of(place)

    def _run_and_leave(self, place: _Place, function: Callable[[], T]) -> tuple[T]:
        if not place.enter():
            raise RuntimeError("the caller gave up before the thread started")
        try:
            # in a tuple: trio refuses a coroutine, which a decorated `async def` returns
            return (function(),)
        finally:
            if place.thread_ended():
                place.loop.call_soon(self._release_stuck, place)

    def _release_stuck(self, place: _Place) -> None:
        self._stuck -= 1
        self._limiter.release_on_behalf_of(place)


class _Place:
    """One thread's place, and which of the two, caller or thread, left it last."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self._lock = threading.Lock()
        self._running = False
        self._left = False

    def enter(self) -> bool:
        """Start the thread's work; say whether anybody still waits for it."""
        with self._lock:
            self._running = not self._left
            return self._running

    def leave(self) -> bool:
        """The caller leaves; say whether the thread is still at work."""
        with self._lock:
            self._left = True
            return self._running

    def thread_ended(self) -> bool:
        """The thread leaves; say whether the caller left before it."""
        with self._lock:
            self._running = False
            return self._left
