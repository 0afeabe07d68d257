"""Who holds leases: each opening of a store has a locked file, which the system frees at its death.

A lease whose owner is gone has lapsed at once: after a `kill -9` nobody waits for it to run out.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["Owner", "bury_the_dead"]


class Owner:
    """One opening of a store, alive as long as its file is locked.

    A child that was forked without an exec has the lock, too: then leases run out by their time.
    """

    def __init__(self, serial: int, file: Path, descriptor: int) -> None:
        self.serial = serial
        self._file = file
        self._descriptor = descriptor

    @classmethod
    def register(cls, connection: sqlite3.Connection, path: Path) -> Owner | None:
        """Bury the dead and join the living; None where files can't be locked."""
        name = secrets.token_hex(8)
        file = _file(path, name)
        descriptor = _create_locked(file)
        try:
            connection.execute("BEGIN IMMEDIATE")
            bury_the_dead(connection, path, None)
            if descriptor is None:
                connection.execute("COMMIT")
                return None
            inserted = connection.execute("INSERT INTO owner (name) VALUES (?)", (name,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if descriptor is not None:
                _remove(file, descriptor)
            raise
        assert inserted.lastrowid is not None
        return cls(inserted.lastrowid, file, descriptor)

    def retire(self, connection: sqlite3.Connection) -> None:
        """Let this one's leases lapse, and leave."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            _let_lapse(connection, self.serial)
            connection.execute("COMMIT")
        finally:
            _remove(self._file, self._descriptor)


def bury_the_dead(connection: sqlite3.Connection, path: Path, but: int | None) -> None:
    """Let the leases of the owners whose processes are gone lapse; inside a transaction."""
    if sys.platform == "win32":
        return
    for serial, name in connection.execute("SELECT serial, name FROM owner").fetchall():
        if serial == but:
            continue
        with _locked_if_free(_file(path, name)) as dead:
            if dead:
                _let_lapse(connection, serial)


def _let_lapse(connection: sqlite3.Connection, serial: int) -> None:
    connection.execute(
        "UPDATE session SET lease_until = 0, owner = NULL WHERE owner = ?", (serial,)
    )
    connection.execute("DELETE FROM owner WHERE serial = ?", (serial,))


def _file(path: Path, name: str) -> Path:
    return path.with_name(f"{path.name}.owner-{name}")


def _create_locked(file: Path) -> int | None:
    """Return the descriptor of a new file, locked before anybody knows its name."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks
        _remove(file, descriptor)
        return None
    return descriptor


@contextmanager
def _locked_if_free(file: Path) -> Generator[bool]:
    """Lock an owner's file, if nobody has it locked, and remove it; say whether that was so."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # its remover died before the row was gone
        yield True
        return
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        _remove(file, descriptor)


def _remove(file: Path, descriptor: int) -> None:
    with suppress(OSError):
        file.unlink()
    os.close(descriptor)
