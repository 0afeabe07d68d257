"""How long an author's code may run: one timer for all of it, where anyio sets one for each."""

from __future__ import annotations

import dis
import inspect
import math
from collections import defaultdict
from collections.abc import Callable
from time import monotonic
from types import FunctionType
from typing import Any

import anyio

__all__ = ["Deadlines", "Interrupted", "never_waits"]

_SEND = dis.opmap.get("SEND")
"""What every await is compiled to, from CPython 3.11 on."""


def never_waits(function: Callable[..., Any]) -> bool:
    """Whether an `async def` awaits nothing, so that nothing can cancel it, and no limit binds it.

    Its code tells, where it can be had: a cancel scope around it would cost more than most tools.
    """
    function = getattr(function, "__func__", function)
    if _SEND is None or type(function) is not FunctionType:  # Cython's has the code of another one
        return False
    code = function.__code__
    # at even places are the instructions; what else is there can only hide one that never waits
    return bool(code.co_flags & inspect.CO_COROUTINE) and _SEND not in code.co_code[::2]


class Interrupted(BaseException):
    """A stop has cancelled what a request was doing. As a cancellation, it must go on."""


class Deadlines:
    """Cancels the scopes that run too long.

    A timer is dearer than most tools: it is made, sorted in among thousands that nobody waits for
    any more, and taken out. Here a scope is noted and forgotten, and `watch` sleeps till the first
    of those that were there is over.
    """

    def __init__(self) -> None:
        self._running: defaultdict[float, dict[anyio.CancelScope, float]] = defaultdict(dict)
        """When each scope is over, by how many seconds it got: so they are in order."""
        self._next = math.inf
        """When the watcher looks again."""
        self._sooner: anyio.Event | None = None
        """Wakes the watcher; None where there is none."""
        self.interrupted = False
        """Nothing may begin any more, and what was running was cancelled."""

    def begin(self, scope: anyio.CancelScope, seconds: float) -> None:
        """Cancel a scope that is about to be entered in so many seconds from now."""
        if self.interrupted:
            scope.cancel()
        if self._sooner is None:
            scope.deadline = anyio.current_time() + seconds
            return
        over = monotonic() + seconds
        self._running[seconds][scope] = over
        if over < self._next:
            self._next = over
            self._sooner.set()

    def end(self, scope: anyio.CancelScope, seconds: float) -> None:
        """Forget a scope that was left."""
        self._running[seconds].pop(scope, None)

    def interrupt(self) -> None:
        """Cancel everything, now and from now on."""
        self.interrupted = True
        for scopes in self._running.values():
            for scope in scopes:
                scope.cancel()

    async def watch(self) -> None:
        """Cancel what is over. Before this runs, and after, each scope has its own deadline."""
        try:
            while True:
                self._sooner = anyio.Event()
                self._next = self._cancel(monotonic())
                with anyio.move_on_after(self._next - monotonic()):
                    await self._sooner.wait()
        finally:
            self._sooner = None
            rest = anyio.current_time() - monotonic()
            for scopes in self._running.values():
                for scope, over in scopes.items():
                    scope.deadline = over + rest
            self._running.clear()

    def _cancel(self, now: float) -> float:
        """Cancel what is over by now; return when the next one is."""
        following = math.inf
        for scopes in self._running.values():
            while scopes:
                scope, over = next(iter(scopes.items()))
                if over > now:
                    following = min(following, over)
                    break
                del scopes[scope]
                scope.cancel()
        return following
