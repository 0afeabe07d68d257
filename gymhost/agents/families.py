"""All processes that came of one program: find them, and end them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
from anyio import to_thread

__all__ = ["MARK", "Family"]

MARK = "GYMHOST_AGENT_PROCESS"
"""The variable by which the processes of one program know each other."""

PROC = Path("/proc")
POLL_SECONDS = 0.02
KILL_SECONDS = 5  # for what SIGKILL does not end: a process stuck in the kernel


class Family:
    """A program's process group, and those of its descendants that have left it.

    Claude Code runs each shell command in a session of its own, and a daemon forks away from
    everybody: but all of them inherit a variable. Where there is no /proc, only the group is seen.
    """

    def __init__(self, group: int, mark: str) -> None:
        self._group = group
        self._mark = f"{MARK}={mark}".encode()

    async def end(self, grace: float) -> None:
        """Ask all of them to end; after `grace` seconds, kill those that are left."""
        if not await self._signal(signal.SIGTERM):
            return
        with anyio.move_on_after(grace):
            await self._signal_until_gone(0)
        with anyio.move_on_after(KILL_SECONDS):
            # again and again: a process may have forked between being found and being killed
            await self._signal_until_gone(signal.SIGKILL)

    async def _signal_until_gone(self, number: int) -> None:
        while await self._signal(number):  # noqa: ASYNC110 - nobody tells of a grandchild's end
            await anyio.sleep(POLL_SECONDS)

    async def _signal(self, number: int) -> bool:
        """Send a signal to all; return whether there is anybody."""
        return await to_thread.run_sync(self._signal_now, number)

    def _signal_now(self, number: int) -> bool:
        if sys.platform != "linux":
            return _sent(os.killpg, self._group, number)
        sent = [_sent(os.kill, pid, number) for pid in self._members()]  # to all, not to the first
        return any(sent)

    def _members(self) -> Iterator[int]:
        for entry in PROC.iterdir():
            if entry.name.isdecimal() and self._is_member(entry):
                yield int(entry.name)

    def _is_member(self, entry: Path) -> bool:
        try:
            # pid (name) state ppid pgrp session ...; a name may have spaces and brackets
            state, _, group, session = (
                (entry / "stat").read_bytes().rpartition(b")")[2].split(maxsplit=4)[:4]
            )
            if state in b"ZX":  # it has ended, and its parent has not asked how
                return False
            if self._group in (int(group), int(session)):
                return True
            return self._mark in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended since, or is somebody else's
            return False


def _sent(kill: Callable[[int, int], None], target: int, number: int) -> bool:
    try:
        kill(target, number)
    except (ProcessLookupError, PermissionError):  # macOS: the latter for a zombie
        return False
    return True
