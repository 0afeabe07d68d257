"""A file of lines that several processes append to: each line is there whole, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LineFile"]


class LineFile:
    """Opened anew for each line: one that was rotated away or deleted begins again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """Make sure of a file that can be appended to.

        Raises: OSError: a folder, a missing one, no permission, no regular file.
        """
        with self._opened():
            pass

    def append(self, line: bytes) -> None:
        """Write one line, which ends in a newline.

        It is with the operating system then: it survives the end of this process.

        Raises: OSError: a full disk, say; the file is as it was.
        """
        with self._opened() as file:
            # locked: what is taken back below must not be another process's line
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                self._append_locked(file, line)
            finally:
                # not by close alone: a process that was forked meanwhile has the lock, too
                fcntl.flock(file, fcntl.LOCK_UN)

    def _append_locked(self, file: int, line: bytes) -> None:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            line = b"\n" + line  # someone was killed within a line
        written = os.write(file, line)
        if written < len(line):
            os.ftruncate(file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    @contextmanager
    def _opened(self) -> Generator[int]:
        # for reading, too: the last byte is looked at, and to open a pipe does not wait
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", str(self.path))
            yield file
        finally:
            os.close(file)
