"""All processes that came of one program: find them, and end them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import anyio
from anyio import to_thread

__all__ = ["MARK", "Family"]

MARK = "GYMHOST_AGENT_PROCESS"
"""The variable by which the processes of one program know each other."""

PROC = Path("/proc")
POLL_SECONDS = 0.01
SLOWEST_POLL_SECONDS = 0.2
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
        members = await to_thread.run_sync(self._members)
        if not members:
            return
        _send(members, signal.SIGTERM)
        with anyio.move_on_after(grace):
            await self._wait_for(members)
        with anyio.move_on_after(KILL_SECONDS):
            # again and again: one may have been started between being looked for and being killed
            while members := await to_thread.run_sync(self._members):
                _send(members, signal.SIGKILL)
                await self._wait_for(members)

    async def _wait_for(self, members: list[int]) -> None:
        # these alone, and ever more rarely: many families may end at once, and a look at all
        # processes takes milliseconds
        seconds = POLL_SECONDS
        while members := [pid for pid in members if self._is_member(pid)]:
            await anyio.sleep(seconds)
            seconds = min(seconds * 1.5, SLOWEST_POLL_SECONDS)

    def _members(self) -> list[int]:
        if not PROC.is_dir():
            return [-self._group] if self._is_member(-self._group) else []
        pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
        return [pid for pid in pids if self._is_member(pid)]

    def _is_member(self, pid: int) -> bool:
        """Whether a process is of the family and runs; a negative number is a group's."""
        if pid < 0:
            return _send([pid], 0)
        entry = PROC / str(pid)
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


def _send(pids: list[int], number: int) -> bool:
    """Send a signal, 0 for none, and return whether anybody was there."""
    found = False
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # macOS: the latter for a zombie
            os.kill(pid, number)
            found = True
    return found
