"""Leases of processes that are gone: nobody waits for them to run out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gymhost.errors import LeaseLost
from gymhost.stores import Lease
from tests.stores.files import opened
from tests.stores.sessions import T0, acquire, leased, new

HOLDER = """
import sys
import anyio
from gymhost.stores import open_store
from tests.stores.sessions import LIVING, T0, leased, new

async def main(url):
    store = open_store(url)
    await store.open()
    lease = await leased(store, "s-1")
    await store.commit(lease, call=b"one")
    ended = await leased(store, "s-2")
    await store.transition(ended, LIVING, "closed", T0, closing=True)
    await store.create(new("s-3", pinned=True, leased_until=T0 + 30))
    print("held", lease.epoch, flush=True)
    await anyio.sleep_forever()

anyio.run(main, sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the leases of three sessions."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"sqlite:///{path}"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held 1\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_killed_holders_leases_lapse_at_once(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    async with opened(path) as store:
        assert await store.acquire("s-1", T0, 30.0) is None
        assert await store.claim_closing(T0, 30.0, environment="env") == []
        holder.kill()
        holder.wait()
        lease = await acquire(store, "s-1", T0, 30.0)
        assert lease is not None
        assert lease.epoch == 2
        assert await store.calls("s-1") == [b"one"]
        assert len(await store.claim_closing(T0, 30.0, environment="env")) == 1


async def test_a_killed_holders_pinned_sessions_are_lost_at_once(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    async with opened(path) as store:
        times = {"unused": 100.0, "idle": 100.0, "total": 100.0}
        assert await store.claim_expired(T0, environment="env", **times) == []
        holder.kill()
        holder.wait()
        (lost,) = await store.claim_expired(T0, environment="env", **times)
        assert (lost.session_id, lost.status) == ("s-3", "lost")


async def test_what_a_killed_process_left_is_cleared_away_at_the_next_start(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    (left,) = path.parent.glob("*.owner-*")
    async with opened(path) as store:
        assert store.database.execute("SELECT count(*) FROM owner").fetchone() == (1,)
        (own,) = path.parent.glob("*.owner-*")
        assert own != left
    assert list(path.parent.iterdir()) == [path]


async def test_a_living_holder_is_left_alone_by_those_who_come(path: Path) -> None:
    async with opened(path) as one:
        lease = await leased(one)
        for _ in range(2):
            async with opened(path) as two:
                assert await two.acquire("s-1", T0, 30.0) is None
        await one.commit(lease, call=b"one")


async def test_a_store_that_closes_lets_go_of_what_it_holds(path: Path) -> None:
    async with opened(path) as two:
        async with opened(path) as one:
            await leased(one)
        assert await two.acquire("s-1", T0, 30.0) is not None


async def test_a_link_to_the_file_is_the_same_store(path: Path) -> None:
    link = path.parent / "folder" / "link.db"
    async with opened(path) as one:
        lease = await leased(one)
        link.parent.mkdir()
        link.symlink_to(path)
        async with opened(link) as two:
            assert await two.acquire("s-1", T0, 30.0) is None
        await one.commit(lease, call=b"one")


async def test_an_owner_whose_file_somebody_removed_is_overtaken_and_fenced_out(
    path: Path,
) -> None:
    async with opened(path) as one, opened(path) as two:
        lease = await leased(one)
        for file in path.parent.glob("*.owner-*"):
            file.unlink()
        assert await two.acquire("s-1", T0, 30.0) is not None
        with pytest.raises(LeaseLost):
            await one.commit(lease, call=b"late")


async def test_where_files_can_not_be_locked_leases_run_out_by_their_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    async with opened(path) as two:
        async with opened(path) as one:
            lease = await leased(one)
            await one.create(new("s-2", leased_until=T0 + 30))
        assert await two.acquire("s-1", T0 + 29, 30.0) is None
        assert await two.acquire("s-2", T0 + 29, 30.0) is None
        assert list(path.parent.glob("*.owner-*")) == []
        taken = await acquire(two, "s-1", T0 + 30, 30.0)
        assert isinstance(taken, Lease)
        assert taken.epoch > lease.epoch


async def test_an_owners_file_that_can_not_be_looked_at_is_a_living_owners(
    path: Path,
) -> None:
    async with opened(path) as one:
        lease = await leased(one)
        (file,) = path.parent.glob("*.owner-*")
        away = file.rename(path.with_name("away"))
        file.mkdir()
        async with opened(path) as two:
            assert await two.acquire("s-1", T0, 30.0) is None
        await one.commit(lease, call=b"one")
        file.rmdir()
        away.rename(file)
