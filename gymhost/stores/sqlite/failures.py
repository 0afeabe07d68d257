"""What SQLite and the system say of a file, as a `StoreError` that says what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from gymhost.errors import StoreError, StoreReason

__all__ = ["store_error"]

Kind = tuple[StoreReason, str, str]
"""A reason, and in words what is so and what to do."""

FULL: Kind = "full", "is full", "Make room on its disk."
LOCKED: Kind = "locked", "is locked by another program", "End what holds it: a shell, a backup."
READ_ONLY: Kind = "read-only", "can't be written", "Its file and folder must be writable."
CORRUPT: Kind = (
    "corrupt",
    "is damaged, or no SQLite database",
    "Put a backup in its place, or name another file.",
)
FAILED: Kind = "failed", "failed", "See whether its disk and folder are well."

BY_SQLITE: dict[int, Kind] = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_CORRUPT: CORRUPT,
    sqlite3.SQLITE_NOTADB: CORRUPT,
}
BY_SYSTEM: dict[int | None, Kind] = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EACCES: READ_ONLY,
    errno.EPERM: READ_ONLY,
    errno.EROFS: READ_ONLY,
}


def store_error(path: Path, error: BaseException) -> StoreError:
    """Return what a caller is raised for what SQLite or the system raised."""
    kind: Kind = FAILED
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)  # Python's own errors have none
        kind = FAILED if code is None else BY_SQLITE.get(code & 0xFF, FAILED)
        if code == sqlite3.SQLITE_CANTOPEN and not _is_writable(path):
            kind = READ_ONLY  # there is no place for the -wal beside it
    elif isinstance(error, OSError):
        kind = BY_SYSTEM.get(error.errno, FAILED)
    reason, what, remedy = kind
    failure = StoreError(f"The session store {path} {what}: {error}. {remedy}", reason)
    failure.__cause__ = error
    return failure


def _is_writable(path: Path) -> bool:
    return all(os.access(each, os.W_OK) for each in (path, path.parent))
