"""What a pinned session has entered: live things, unwound with it, in a task of their own."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from gymhost.owner_task import OwnerTask

__all__ = ["Pin"]

logger = logging.getLogger("gymhost.sessions")

# What unwinding gets after it was cancelled.
CANCEL_SECONDS = 2.0

_ValueT = TypeVar("_ValueT")


class Pin:
    """One session's exit stack. The first `enter` starts the task that owns it."""

    def __init__(self, tasks: TaskGroup, session_id: str) -> None:
        self._tasks = tasks
        self._session_id = session_id
        self._owner: OwnerTask | None = None
        self._starting = anyio.Lock()
        self._closed = False

    async def enter(
        self, manager: AbstractAsyncContextManager[_ValueT] | AbstractContextManager[_ValueT]
    ) -> _ValueT:
        """Enter a context manager until the session ends, and return what it gives.

        A caller whose time is up leaves it to be entered all the same.

        Raises: RuntimeError: the session has ended, or what it had entered has failed; and what
        the context manager raises.
        """
        owner = await self._started()

        async def enter() -> _ValueT:
            if isinstance(manager, AbstractAsyncContextManager):
                return await owner.stack.enter_async_context(manager)
            return owner.stack.enter_context(manager)

        value: _ValueT = await owner.run_on(enter)
        return value

    async def _started(self) -> OwnerTask:
        async with self._starting:
            if self._closed:
                raise RuntimeError("the session has ended: nothing can be entered in it")
            if self._owner is None:
                owner = OwnerTask(f"session {self._session_id}")
                with anyio.CancelScope(shield=True):  # it starts at once
                    await self._tasks.start(owner.serve)
                self._owner = owner
            return self._owner

    async def aclose(self, seconds: float) -> bool:
        """Unwind what was entered, in reverse; say whether that ended in time.

        What takes longer than `seconds` is cancelled, and, if that does not help, left.
        """
        async with self._starting:  # a task that starts meanwhile would never be ended
            self._closed = True
        if self._owner is None:
            return True
        self._owner.close()
        with anyio.move_on_after(seconds):
            await self._owner.ended.wait()
            return True
        self._owner.cancel()
        with anyio.move_on_after(CANCEL_SECONDS):
            await self._owner.ended.wait()
        logger.error("unwinding session %s took longer than %g s", self._session_id, seconds)
        return False
