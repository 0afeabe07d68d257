"""One file, opened: its connection, and this opening's name among those who hold leases."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from gymhost.errors import StoreError
from gymhost.stores.sqlite.owners import Owner, bury_the_dead
from gymhost.stores.sqlite.schema import check_identity, migrate
from gymhost.stores.sqlite.url import Synchronous

__all__ = ["Database", "open_database"]

BUSY_SECONDS = 5.0
WAL_RETRY_SECONDS = 0.005
CACHE_KIB = 32 * 1024
WAL_BYTES_KEPT = 64 * 1024 * 1024


class Database:
    """What a verb works on. One thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.owner: Owner | None = None
        # with the -wal: what was written lately is in it, and it is there while the file is open
        self._files = (path, path.with_name(f"{path.name}-wal"))
        self._identities = [_identity(file) for file in self._files]

    @property
    def owner_serial(self) -> int | None:
        """Whom a lease of this process names; None where a process can't be seen to be gone."""
        return None if self.owner is None else self.owner.serial

    def check_file(self) -> None:
        """See that what is written goes into the files of that name.

        Raises: StoreError: one is gone or another one; SQLite would go on writing to what nobody
        will find again.
        """
        if [_identity(file) for file in self._files] != self._identities:
            raise StoreError(
                f"The session store {self.path} was deleted or replaced. Put it back, or restart "
                "gymhost.",
                "gone",
            )

    def bury_the_dead(self) -> None:
        """Let the leases lapse whose owners' processes are gone; inside a transaction."""
        bury_the_dead(self.connection, self.path, self.owner_serial)

    def close(self) -> None:
        """Close the file; what this opening holds lapses."""
        try:
            if self.owner is not None:
                with suppress(sqlite3.Error):  # a full disk: it lapses with the lock, too
                    self.owner.retire(self.connection)
        finally:
            self.connection.close()


def open_database(
    path: Path, synchronous: Synchronous, busy_seconds: float = BUSY_SECONDS
) -> Database:
    """Open a file, make it where there is none, and bring its tables up to date.

    Raises: StoreError: it is no store of ours; OSError, sqlite3.Error.
    """
    path = path.resolve()  # the owners' files are beside it, however it is named
    _make_file(path)
    connection = sqlite3.connect(
        path,
        timeout=busy_seconds,
        isolation_level=None,  # a transaction begins where we say so
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        # before anything is changed in a file that is not ours; in one transaction, as somebody
        # else may be making the same one
        connection.execute("BEGIN")
        check_identity(connection, path)
        connection.execute("COMMIT")
        _use_wal(connection, path, busy_seconds)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        connection.execute("PRAGMA trusted_schema = OFF")  # the file may have come from anywhere
        migrate(connection, path)
        database = Database(path, connection)
        database.owner = Owner.register(connection, path)
        return database
    except BaseException:
        connection.close()
        raise


def _use_wal(connection: sqlite3.Connection, path: Path, busy_seconds: float) -> None:
    """Put the file into WAL mode, if it is not: a mode is the file's, and stays.

    Of those who do that to one file at once, SQLite refuses all but one, and without a wait, as
    each reads what it means to change. So it is asked again.
    """
    until = time.monotonic() + busy_seconds
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(WAL_RETRY_SECONDS)
            continue
        if mode == "wal":
            return
        raise StoreError(f"The session store {path} can't be in WAL mode here. Use a local disk.")


def _make_file(path: Path) -> None:
    """Make an empty file that this user alone can read: SQLite's -wal and -shm follow its mode.

    An existing file is not opened: on POSIX, closing it would drop the locks that another
    connection of this process has on it.
    """
    if path.is_dir():
        raise StoreError(f"The session store {path} is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise StoreError(f"The session store's folder {path.parent} does not exist. Make it first.")
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
