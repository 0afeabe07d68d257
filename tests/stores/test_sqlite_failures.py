"""A file that fails, really: an error that says why, nothing lost, and on it goes afterwards."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest

from gymhost.errors import StoreError, StoreReason
from gymhost.stores import Lease
from gymhost.stores.sqlite.failures import store_error
from tests.stores.files import OpenStore, opened
from tests.stores.sessions import WRITES, leased, new, row_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


async def fails(verb: Awaitable[Any], reason: StoreReason, path: Path) -> None:
    """Hold a verb to failing for a reason, with a text that names the file."""
    with pytest.raises(StoreError) as failed:
        await verb
    assert (type(failed.value), failed.value.reason) == (StoreError, reason)
    assert str(path) in str(failed.value)


# -- while it runs ---------------------------------------------------------------------------------

Undo = Callable[[], object]


def lock(store: OpenStore, path: Path) -> Undo:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def make_read_only(store: OpenStore, path: Path) -> Undo:
    store.database.execute("PRAGMA query_only = on")
    return lambda: store.database.execute("PRAGMA query_only = off")


def damage(store: OpenStore, path: Path) -> Undo:
    """Overwrite everything but the first page, behind SQLite's back."""
    store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.database.execute("PRAGMA cache_size = 0")
    with path.open("r+b") as file:
        file.seek(4096)
        good = file.read()
        file.seek(4096)
        file.write(b"\xff" * len(good))

    def mend() -> None:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(good)

    return mend


def take_away(store: OpenStore, path: Path) -> Undo:
    away = path.with_name("away.db")
    path.rename(away)
    return lambda: away.rename(path)


def replace(store: OpenStore, path: Path) -> Undo:
    undo = take_away(store, path)
    path.write_bytes(b"")
    return undo


def take_the_wal_away(store: OpenStore, path: Path) -> Undo:
    wal, away = path.with_name(f"{path.name}-wal"), path.with_name("away")
    wal.rename(away)
    return lambda: away.rename(wal)


TROUBLES: dict[str, tuple[Callable[[OpenStore, Path], Undo], StoreReason]] = {
    "locked by another program": (lock, "locked"),
    "read-only": (make_read_only, "read-only"),
    "damaged": (damage, "corrupt"),
    "taken away": (take_away, "gone"),
    "replaced": (replace, "gone"),
    "without its -wal": (take_the_wal_away, "gone"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_trouble_is_an_error_and_when_it_ends_all_goes_on(path: Path, trouble: str) -> None:
    cause, reason = TROUBLES[trouble]
    async with opened(path) as store:
        lease = await leased(store)
        await store.commit(lease, call=b"one")
        before = await row_of(store)
        undo = cause(store, path)
        await fails(store.check(), reason, path)
        await fails(store.create(new("s-2")), reason, path)
        for write in WRITES.values():
            await fails(write(store, lease), reason, path)
        undo()
        await store.check()
        assert await row_of(store) == before
        assert await store.calls("s-1") == [b"one"]
        assert await store.get("s-2") is None
        for write in WRITES.values():
            await write(store, lease)
        assert await store.calls("s-1") == [b"one", b"call"]


async def test_what_went_into_a_wal_that_was_deleted_is_saved_by_a_stop(path: Path) -> None:
    async with opened(path) as store:
        await leased(store)
        path.with_name(f"{path.name}-wal").unlink()
        await fails(store.check(), "gone", path)
    async with opened(path) as store:
        await store.check()
        assert await store.get("s-1") is not None


async def test_what_is_locked_can_be_read(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())
        unlock = lock(store, path)
        assert await store.find(b"token of s-1") is not None
        assert len((await store.list()).rows) == 1
        unlock()


async def test_a_full_store_takes_what_fits_and_goes_on_with_more_room(path: Path) -> None:
    async with opened(path) as store:
        lease = await leased(store)
        other = await leased(store, "s-2")
        (pages,) = store.database.execute("PRAGMA page_count").fetchone()
        store.database.execute(f"PRAGMA max_page_count = {pages}")
        async with anyio.create_task_group() as tasks:
            release = await store.hold_up(tasks)
            tasks.start_soon(fails, store.commit(lease, call=bytes(10**6)), "full", path)
            tasks.start_soon(_commit, store, other)
            await anyio.wait_all_tasks_blocked()
            release.set()  # the two are one group
        await fails(store.check(), "full", path)
        assert await store.calls("s-1") == []
        assert await store.calls("s-2") == [b"small"]
        store.database.execute("PRAGMA max_page_count = 1000000")
        await store.check()
        await store.commit(lease, call=bytes(10**6))
        assert await store.calls("s-1") == [bytes(10**6)]


async def _commit(store: OpenStore, lease: Lease) -> None:
    await store.commit(lease, call=b"small")


LIMITED = """
import resource, sys
import anyio
from gymhost.errors import StoreError
from gymhost.stores import open_store
from tests.stores.sessions import leased

async def main(url):
    store = open_store(url)
    await store.open()
    lease = await leased(store)
    await store.commit(lease, call=b"one")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    for _ in range(2):
        try:
            await store.commit(lease, call=bytes(1_000_000))
        except StoreError as exc:
            print(exc.reason)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.commit(lease, call=b"two")
    print(await store.calls("s-1"))
    await store.aclose()

anyio.run(main, sys.argv[1])
"""


def test_a_write_that_the_system_refuses_is_an_error_and_is_not_there(path: Path) -> None:
    done = _run(LIMITED, path)
    assert done.stdout.splitlines() == ["failed", "failed", "[b'one', b'two']"]


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "full"),
        (sqlite_error(sqlite3.SQLITE_BUSY_RECOVERY), "locked"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DIRECTORY), "read-only"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT_INDEX), "corrupt"),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), "failed"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), "read-only"),  # there is no such folder
        (sqlite3.ProgrammingError("of Python's own"), "failed"),
        (OSError(errno.ENOSPC, "No space left"), "full"),
        (OSError(errno.EDQUOT, "Quota exceeded"), "full"),
        (PermissionError(errno.EACCES, "Permission denied"), "read-only"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (OSError(errno.EIO, "Input/output error"), "failed"),
        (TypeError("a bug"), "failed"),
    ],
    ids=repr,
)
def test_what_sqlite_and_the_system_say_has_a_reason(
    path: Path, error: Exception, reason: StoreReason
) -> None:
    failure = store_error(path / "missing" / "sessions.db", error)
    assert failure.reason == reason
    assert failure.__cause__ is error
    assert str(path) in str(failure)
    assert str(error) in str(failure)


async def test_a_store_that_can_not_even_be_opened_for_want_of_files_says_so(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
    try:
        store = OpenStore(path)
        with pytest.raises(StoreError) as failed:
            await store.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert failed.value.reason == "failed"
    async with opened(path) as store:
        assert await store.get("s-1") is not None


# -- at the start ----------------------------------------------------------------------------------


def write_garbage(path: Path) -> None:
    path.write_bytes(b"This is no database. " * 500)


def write_another_programs(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()


def write_another_applications(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 7")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()


STARTS: dict[str, tuple[Callable[[Path], object], StoreReason, str]] = {
    "no database": (write_garbage, "corrupt", "backup"),
    "another program's": (write_another_programs, "foreign", "another program"),
    "another application's": (write_another_applications, "foreign", "another program"),
    "a folder": (Path.mkdir, "failed", "is a folder"),
}


@pytest.mark.parametrize("what", STARTS)
async def test_what_is_no_store_is_refused_and_left_as_it_is(path: Path, what: str) -> None:
    make, reason, text = STARTS[what]
    make(path)
    before = path.read_bytes() if path.is_file() else None  # noqa: ASYNC240
    store = OpenStore(path)
    await fails(store.open(), reason, path)
    with pytest.raises(StoreError, match=text):
        await store.open()
    assert (path.read_bytes() if path.is_file() else None) == before  # noqa: ASYNC240
    assert list(path.parent.iterdir()) == [path]


async def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "sessions.db"
    await fails(OpenStore(path).open(), "failed", path.parent)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_a_store_that_another_program_holds_is_not_waited_for_forever(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    await fails(OpenStore(path).open(), "locked", path)
    other.close()
    async with opened(path) as store:
        assert await store.get("s-1") is not None


async def test_a_store_that_another_program_writes_to_says_so_at_the_start(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await fails(OpenStore(path).open(), "locked", path)
    other.close()
    assert list(path.parent.glob("*.owner-*")) == []
    async with opened(path) as store:
        assert await store.get("s-1") is not None


async def test_a_store_that_was_damaged_says_so_at_the_start(path: Path) -> None:
    async with opened(path) as store:
        await leased(store)
    damage_closed = bytearray(path.read_bytes())  # noqa: ASYNC240
    damage_closed[100:] = os.urandom(len(damage_closed) - 100)
    path.write_bytes(damage_closed)  # noqa: ASYNC240
    await fails(OpenStore(path).open(), "corrupt", path)


UNPRIVILEGED = """
import os, sys
import anyio
from gymhost.errors import StoreError
from gymhost.stores import open_store

async def main(url):
    store = open_store(url)
    if os.geteuid() == 0:  # root may write everything
        os.setuid(65534)
    try:
        await store.open()
    except StoreError as exc:
        print(exc.reason)

anyio.run(main, sys.argv[1])
"""


@pytest.mark.parametrize(
    ("file", "folder"),
    [(0o444, 0o777), (0o666, 0o555), (None, 0o555)],
    ids=["file", "folder", "new"],
)
def test_a_file_or_folder_without_the_right_to_write_says_so(file: int | None, folder: int) -> None:
    with TemporaryDirectory() as name:  # not pytest's, into which only its user can look
        path = Path(name, "sessions.db")
        if file is not None:
            anyio.run(_make, path)
            path.chmod(file)
        Path(name).chmod(folder)
        done = _run(UNPRIVILEGED, path)
        Path(name).chmod(0o700)
    assert done.stdout == "read-only\n"


async def _make(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())


def _run(program: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{path}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
