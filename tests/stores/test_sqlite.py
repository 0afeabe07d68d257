"""The store in a file: what is its own."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from gymhost.errors import LeaseLost, StoreError
from gymhost.registry import hash_token, mint_token
from gymhost.stores import open_store
from gymhost.stores.sqlite import SqliteStore, SqliteUrl, parse_url, schema
from tests.stores.files import OpenStore, opened
from tests.stores.sessions import T0, acquire, found_of, leased, new, row_of, verdict


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


# -- the URL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("sqlite:///a.db", SqliteUrl(Path("a.db"))),
        ("sqlite:///folder/a.db", SqliteUrl(Path("folder/a.db"))),
        ("sqlite:////folder/a.db", SqliteUrl(Path("/folder/a.db"))),
        ("sqlite:////a%20b%23%3F%25.db", SqliteUrl(Path("/a b#?%.db"))),
        ("sqlite:///a.db?synchronous=full", SqliteUrl(Path("a.db"), "full")),
        ("sqlite:///a.db?synchronous=normal", SqliteUrl(Path("a.db"), "normal")),
    ],
)
def test_a_url_names_a_file_and_when_it_is_written(url: str, read: SqliteUrl) -> None:
    assert parse_url(url) == read


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite://a.db",
        "sqlite://host/a.db",
        "sqlite:///a.db#x",
        "sqlite:///a.db#",
        "sqlite:///a%00.db",
        "sqlite:///a%ff.db",
        "sqlite:///a.db?synchronous=off",
        "sqlite:///a.db?synchronous=",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a.db?synchronous",
        "sqlite:///a.db?synchronous=full&mode=ro",
    ],
)
def test_a_url_that_says_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite|synchronous|utf-8"):
        open_store(url)


async def test_a_store_that_was_not_opened_has_touched_nothing(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    assert store.durable
    with pytest.raises(StoreError, match="closed"):
        await store.get("s-1")
    await store.aclose()
    assert list(path.parent.iterdir()) == []


# -- the file --------------------------------------------------------------------------------------


async def test_sessions_are_there_when_the_file_is_opened_again(path: Path) -> None:
    async with opened(path) as store:
        lease = await leased(store, key="key", allowed_tools=("a",))
        await store.commit(lease, call=b"one", state=b'{"n":1}', counted="timeout", used_at=T0)
        await store.record_verdict(lease, verdict(), trajectory=b"[]", closing=True)
        before = await row_of(store)
    async with opened(path) as store:
        assert await row_of(store) == before
        assert await store.calls("s-1") == [b"one"]
        assert await store.trajectory("s-1") == b"[]"
        assert await store.find(b"token of s-1") == found_of(before)
        # what was held when it was closed has lapsed
        assert len(await store.claim_closing(T0, 30.0, environment="env")) == 1


async def test_a_store_can_be_opened_again(path: Path) -> None:
    store = OpenStore(path / "nowhere")
    with pytest.raises(StoreError, match="folder"):
        await store.open()
    await anyio.Path(path).mkdir()
    for _ in range(2):
        await store.open()
        await store.check()
        await store.aclose()


async def test_what_is_in_the_files_is_for_this_user_alone_and_no_token(path: Path) -> None:
    token, second = mint_token(), mint_token()
    async with opened(path) as store:
        await store.create(new(token_hash=hash_token(token)))
        await store.add_token("s-1", hash_token(second))
        files = list(path.parent.iterdir())
        assert {file.name.partition("-")[0] for file in files} == {
            "sessions.db",
            "sessions.db.owner",
        }
        assert {"sessions.db-wal", "sessions.db-shm"} < {file.name for file in files}
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        written = b"".join(file.read_bytes() for file in files)
        assert hash_token(token) in written
        assert hash_token(second) in written
        for each in (token, second):
            assert each.encode() not in written
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("synchronous", "level"), [("normal", 1), ("full", 2)])
async def test_the_disk_is_waited_for_as_the_url_asks(
    path: Path, synchronous: str, level: int
) -> None:
    async with opened(path, synchronous=synchronous) as store:
        assert store.database.execute("PRAGMA synchronous").fetchone() == (level,)
        assert store.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_halves_of_characters_and_zeros_are_no_ones_names(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())
        for name in ("\ud800", "s-1\0", "\udcff", "s-1\ud800"):
            assert await store.get(name) is None
            assert await store.calls(name) == []
            assert await store.trajectory(name) is None
            assert await store.acquire(name, T0, 30.0) is None
            assert not await store.forget(name)
            assert (await store.list(environment=name)).rows == ()
            assert await store.prune(T0 + 1, environment=name) == 0
            assert await store.find_key(name, name) is None


async def test_two_stores_share_a_file_and_an_overtaken_holder_is_fenced_out(path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        lost = await leased(one)
        assert await two.acquire("s-1", T0 + 29, 30.0) is None
        held = await acquire(two, "s-1", T0 + 30, 30.0)
        assert held is not None
        with pytest.raises(LeaseLost):
            await one.commit(lost, call=b"late")
        assert not await one.release(lost, closed=True)
        await two.commit(held, call=b"one")
        assert await one.calls("s-1") == [b"one"]


async def test_many_sessions_are_expired_and_forgotten_in_parts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymhost.stores.sqlite.store.MANY", 2)
    async with opened(path) as store:
        for number in range(5):
            await store.create(new(f"s-{number}"))
        claimed = await store.claim_expired(
            T0 + 10, unused=10.0, idle=10.0, total=10.0, environment="env"
        )
        assert sorted(row.session_id for row in claimed) == [f"s-{each}" for each in range(5)]
        assert await store.prune(T0 + 11) == 5
        left = [
            store.database.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in ("session", "seed", "state", "token", "call")
        ]
        assert left == [(0,)] * 5


QUERIES = {
    "living": "SELECT serial FROM session WHERE environment = ? AND ended_at IS NULL",
    "ended": "SELECT serial FROM session WHERE environment = ? AND ended_at < ?",
    "closing": "SELECT id FROM session WHERE environment = ? AND closing ORDER BY ended_at",
    "counts": "SELECT environment, status, count(*) FROM session GROUP BY environment, status",
    "key": "SELECT id FROM session WHERE environment = ? AND living_key = ?",
    "status": "SELECT id FROM session WHERE environment = ? AND status = ? ORDER BY serial DESC",
    "calls": "SELECT data FROM call WHERE session = ? ORDER BY serial",
    "tokens": "DELETE FROM token WHERE session = ?",
}


@pytest.mark.parametrize("query", QUERIES)
async def test_what_is_asked_often_walks_no_table(path: Path, query: str) -> None:
    async with opened(path) as store:
        sql = QUERIES[query]
        plan = store.database.execute(f"EXPLAIN QUERY PLAN {sql}", ("x",) * sql.count("?"))
        steps = [step for *_, step in plan]
        assert all("INDEX" in step for step in steps), steps


# -- versions --------------------------------------------------------------------------------------


async def test_a_file_of_an_older_version_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as store:
        await store.create(new())
    later = (*schema.MIGRATIONS, ("ALTER TABLE session ADD COLUMN note TEXT",))
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, path, later)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
    assert connection.execute("SELECT id, note FROM session").fetchone() == ("s-1", None)
    schema.migrate(connection, path, later)
    with pytest.raises(StoreError, match="a later one") as failed:
        schema.check_identity(connection, path)
    assert failed.value.reason == "newer"
    connection.close()
    with pytest.raises(StoreError, match="a later one"):
        await OpenStore(path).open()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new())
    connection = sqlite3.connect(path, isolation_level=None)
    broken = (*schema.MIGRATIONS, ("DROP TABLE call", "no such statement"))
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, path, broken)
    connection.close()
    async with opened(path) as store:
        assert await store.calls("s-1") == []


async def test_two_who_make_the_file_at_once_make_one(path: Path) -> None:
    stores = [open_store(f"sqlite:///{path}") for _ in range(4)]
    async with anyio.create_task_group() as opening:
        for store in stores:
            opening.start_soon(store.open)
    await stores[0].create(new())
    for store in stores:
        assert await store.get("s-1") is not None
        await store.aclose()
    assert list(path.parent.iterdir()) == [path]


async def test_who_makes_the_file_waits_for_another_who_does(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # SQLite refuses a change of the mode at once, as it has read
    store = open_store(f"sqlite:///{path}")
    async with anyio.create_task_group() as opening:
        opening.start_soon(store.open)
        await anyio.sleep(0.1)
        assert _mode(path) == "delete"
        other.execute("ROLLBACK")
    other.close()
    assert _mode(path) == "wal"
    await store.aclose()


def _mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    assert isinstance(mode, str)
    return mode
