"""A file of lines that are on disk before they count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pydantic_core

from gymhost.errors import GymhostError

__all__ = ["AppendedFile", "RecordError"]

BLOCK = 1 << 20


class RecordError(GymhostError):
    """The record can't be read or written: the run stops, and what was written stays good."""


@dataclass(slots=True)
class _Batch:
    """Lines that are written together."""

    lines: list[bytes] = field(default_factory=list[bytes])
    written: bool = False
    error: RecordError | None = None


class AppendedFile:
    """Takes lines, from many tasks at once, and returns when they are on disk.

    What comes while a batch is written is the next batch: one `fsync` for all of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batch = _Batch()
        self._lock = anyio.Lock()
        self._broken: RecordError | None = None
        self._limiter = anyio.CapacityLimiter(1)  # not a share of the threads that tools run in
        try:
            self.created = not path.exists()
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except (OSError, ValueError) as exc:
            raise _error(path, "opened", exc) from exc

    @property
    def descriptor(self) -> int:
        """The open file's number."""
        return self._file

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def repair(self) -> None:
        """Take off what a crash has left of the last line; give a whole one its end.

        Raises: RecordError.
        """
        try:
            size = os.fstat(self._file).st_size
            start = _last_line_start(self._file, size)
            if start == size:
                return
            rest = os.pread(self._file, size - start, start)
            if _is_object(rest):  # no part of an object is one
                os.write(self._file, b"\n")
            else:
                os.ftruncate(self._file, start)
            os.fsync(self._file)
        except OSError as exc:
            raise _error(self.path, "repaired", exc) from exc

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield what the lines hold, one at a time.

        Raises: RecordError: a line that holds no object.
        """
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    yield self._row(number, line)
        except OSError as exc:
            raise _error(self.path, "read", exc) from exc

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = pydantic_core.from_json(line)
        except ValueError as exc:
            raise RecordError(f"{self.path}:{number}: not JSON: {exc}") from exc
        if not isinstance(row, dict):
            raise RecordError(f"{self.path}:{number}: no JSON object")
        return row

    async def append(self, line: bytes) -> None:
        """Write a line with its end. A cancellation waits till it is written.

        Raises: RecordError: it is not there, and no other will be.
        """
        batch = self._batch
        batch.lines.append(line)
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if not batch.written:
                    self._batch = _Batch()
                    await self._write(batch)
        if batch.error is not None:
            raise RecordError(str(batch.error)) from batch.error

    async def _write(self, batch: _Batch) -> None:
        data = b"".join(batch.lines)
        batch.lines.clear()
        if self._broken is None:
            try:
                await anyio.to_thread.run_sync(_append, self._file, data, limiter=self._limiter)
            except OSError as exc:
                self._broken = _error(self.path, "written", exc)
        batch.written, batch.error = True, self._broken

    def reset(self, line: bytes) -> None:
        """Replace everything by one line.

        Raises: RecordError.
        """
        try:
            os.ftruncate(self._file, 0)
            os.write(self._file, line)
            os.fsync(self._file)
        except OSError as exc:
            raise _error(self.path, "written", exc) from exc


def _append(file: int, data: bytes) -> None:
    """Write all of it, or nothing.

    Raises: OSError.
    """
    size = os.fstat(file).st_size
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError:
        with suppress(OSError):  # no regular file
            os.ftruncate(file, size)
        raise


def _last_line_start(file: int, size: int) -> int:
    """Return where the part after the last line's end starts."""
    end = size
    while end > 0:
        start = max(0, end - BLOCK)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(pydantic_core.from_json(text), dict)
    except ValueError:
        return False


def _error(path: Path, what: str, error: Exception) -> RecordError:
    reason = error.strerror if isinstance(error, OSError) else error
    return RecordError(f"{path} can't be {what}: {reason}")
