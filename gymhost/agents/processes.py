"""Run a program, hand over the lines that it prints, and leave no process of it behind."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import IO, Any

import anyio
from anyio.abc import ByteReceiveStream, Process

from gymhost.agents.families import MARK, Family

__all__ = ["GRACE_SECONDS", "LINE_LIMIT", "Ended", "Lines", "run_program"]

GRACE_SECONDS = 5.0
"""How long a program has for ending by itself, once it is asked to."""
LINE_LIMIT = 32 * 2**20
"""A longer line is dropped. In bytes."""
TAIL_LIMIT = 8 * 2**10
READ_SIZE = 2**16


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    exit_code: int
    """Negative: the signal that ended it."""
    stderr: str
    """The last of it."""


async def run_program(
    command: Sequence[str],
    on_line: Callable[[bytes], bool],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: int | IO[Any] = DEVNULL,
    grace: float = GRACE_SECONDS,
) -> Ended:
    """Run it until it ends, `on_line` says False, or the caller is cancelled.

    Whatever it has started is ended by then: first asked, after `grace` seconds killed.

    Raises: OSError: it could not be started.
    """
    mark = secrets.token_hex(16)
    process = None
    with anyio.CancelScope(shield=True):  # between being started and being known it has no owner
        process = await anyio.open_process(
            command, stdin=stdin, env={**env, MARK: mark}, cwd=cwd, start_new_session=True
        )
    assert process is not None
    family = Family(process.pid, mark)
    tail = bytearray()
    try:
        await _read(process, family, on_line, tail, grace)
    finally:
        with anyio.CancelScope(shield=True):
            await family.end(grace)
            await process.aclose()
    return Ended(await process.wait(), tail.decode("utf-8", "replace").strip())


async def _read(
    process: Process,
    family: Family,
    on_line: Callable[[bytes], bool],
    tail: bytearray,
    grace: float,
) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    async with anyio.create_task_group() as running:
        reading = anyio.CancelScope()
        running.start_soon(_watch, process, family, reading, grace)
        with reading:
            async with anyio.create_task_group() as streams:
                streams.start_soon(_keep_tail, process.stderr, tail)
                if not await _hand_over(process.stdout, on_line):
                    running.cancel_scope.cancel()


async def _watch(
    process: Process, family: Family, reading: anyio.CancelScope, grace: float
) -> None:
    """End what the program leaves behind when it ends: that may hold its pipes open for ever."""
    await process.wait()
    await family.end(grace)
    reading.deadline = anyio.current_time() + grace


async def _hand_over(stream: ByteReceiveStream, on_line: Callable[[bytes], bool]) -> bool:
    """Hand over each line; return whether all of them were wanted."""
    lines = Lines()
    try:
        while True:
            for line in lines.feed(await stream.receive(READ_SIZE)):
                if not on_line(line):
                    return False
    except anyio.EndOfStream:
        return on_line(lines.rest())  # half a line, where it was interrupted


async def _keep_tail(stream: ByteReceiveStream, tail: bytearray) -> None:
    async for data in stream:
        tail += data
        del tail[:-TAIL_LIMIT]


class Lines:
    """Cuts a stream of bytes into lines, and holds at most one of them."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what comes, and yield each line that is whole by now, and not too long."""
        first, *more = data.split(b"\n")
        self._add(first)
        for part in more:
            if self._size <= self._limit:
                yield b"".join(self._parts)
            self._parts, self._size = [], 0
            self._add(part)

    def rest(self) -> bytes:
        """Return what came after the last line's end."""
        return b"".join(self._parts)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            self._parts = []
        elif part:
            self._parts.append(part)
