"""The tables, and how a file of an older version gets them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from gymhost.errors import StoreError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "check_identity", "migrate"]

APPLICATION_ID = 0x67796D68  # "gymh", in the file's header: it is ours

Migration = Sequence[str]

# What a commit touches is small and in tables of its own: SQLite rewrites a row whole, and a task
# or a state may be large. Calls and sessions are appended in the order they come, so that those of
# one group share pages. Rows are deleted explicitly: there are few places, and no foreign keys.
FIRST: Migration = (
    # AUTOINCREMENT: a list's cursor is a serial, so none comes twice
    """CREATE TABLE session (
        serial INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        environment TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at REAL NOT NULL,
        used_at REAL,
        ended_at REAL,
        pinned INTEGER NOT NULL,
        closing INTEGER NOT NULL DEFAULT 0,
        epoch INTEGER NOT NULL DEFAULT 0,
        lease_until REAL NOT NULL,
        owner INTEGER,
        counts TEXT NOT NULL DEFAULT '{}',
        key TEXT,
        living_key TEXT
    )""",
    "CREATE INDEX session_by_environment ON session (environment)",
    "CREATE INDEX session_by_status ON session (environment, status)",
    "CREATE INDEX session_living ON session (environment) WHERE ended_at IS NULL",
    "CREATE INDEX session_ended ON session (environment, ended_at) WHERE ended_at IS NOT NULL",
    "CREATE INDEX session_closing ON session (environment, ended_at) WHERE closing",
    "CREATE INDEX session_by_owner ON session (owner) WHERE owner IS NOT NULL",
    """CREATE UNIQUE INDEX session_by_key ON session (environment, living_key)
        WHERE living_key IS NOT NULL""",
    """CREATE TABLE seed (
        session INTEGER PRIMARY KEY,
        body_hash BLOB NOT NULL,
        allowed_tools TEXT,
        task BLOB NOT NULL
    )""",
    "CREATE TABLE state (session INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    """CREATE TABLE verdict (
        session INTEGER PRIMARY KEY,
        body_hash BLOB NOT NULL,
        failure_kind TEXT,
        recorded_at REAL NOT NULL,
        result BLOB NOT NULL
    )""",
    "CREATE TABLE trajectory (session INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE token (hash BLOB PRIMARY KEY, session INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX token_by_session ON token (session)",
    "CREATE TABLE call (serial INTEGER PRIMARY KEY, session INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX call_by_session ON call (session)",
    # AUTOINCREMENT: a lease names its owner, and must not come to name another one
    "CREATE TABLE owner (serial INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE probe (data BLOB NOT NULL)",
)

MIGRATIONS: Sequence[Migration] = (FIRST,)
"""What brings a file from each version to the next. Append: what is released stays as it is."""


def check_identity(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS
) -> int:
    """Return the version of the file's tables; 0 for a new file.

    Raises: StoreError: it is another program's, or a later gymhost's.
    """
    application, version = _number(connection, "application_id"), _version(connection)
    if application != APPLICATION_ID:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise StoreError(
                f"{path} is the database of another program. Name another file.", "foreign"
            )
    if version > len(migrations):
        raise StoreError(
            f"The session store {path} has version {version}, and this gymhost knows those up to "
            f"{len(migrations)}. Use the gymhost that wrote it, or a later one.",
            "newer",
        )
    return version


def migrate(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Bring the tables up to date, in one transaction.

    Raises: StoreError: it is another program's, or a later gymhost's.
    """
    if _version(connection) == len(migrations):
        return  # nothing is written: a store that others write to opens at once
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = check_identity(connection, path, migrations)  # again: others may migrate, too
        for migration in migrations[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return _number(connection, "user_version")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    assert isinstance(number, int)
    return number
