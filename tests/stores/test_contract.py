"""What every session store does: create, find, lease, commit."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from gymhost.errors import LeaseLost, StoreError
from gymhost.stores import Lease, SessionRow, SessionStore, Status
from gymhost.stores.base import ENDED
from tests.stores.sessions import (
    LIVING,
    T0,
    WRITES,
    acquire,
    found_of,
    leased,
    new,
    row_of,
    verdict,
)

# -- create and find -------------------------------------------------------------------------------


async def test_a_session_is_found_as_it_was_created(store: SessionStore) -> None:
    made = new(allowed_tools=("a", "b"), key="key", body_hash=b"\x00\xff", state=b'{"n":1}')
    assert await store.create(made) is None
    row = SessionRow(
        session_id="s-1",
        environment="env",
        status="open",
        task='{"city":"Zürich"}'.encode(),
        state=b'{"n":1}',
        allowed_tools=("a", "b"),
        created_at=T0,
        used_at=None,
        ended_at=None,
        key="key",
        body_hash=b"\x00\xff",
        epoch=0,
    )
    assert await store.get("s-1") == made.row() == row
    assert await store.find(made.token_hash) == found_of(row)
    assert await store.find_key("env", "key") == row
    assert await store.calls("s-1") == []


@pytest.mark.parametrize("allowed", [None, (), ("a",)])
async def test_no_tools_is_not_all_tools(store: SessionStore, allowed: Any) -> None:
    await store.create(new(allowed_tools=allowed))
    assert (await row_of(store)).allowed_tools == allowed


async def test_what_was_never_created_is_not_found(store: SessionStore) -> None:
    await store.create(new())
    assert await store.get("s-2") is None
    assert await store.find(b"token of s-2") is None
    assert await store.find(b"s-1") is None
    assert await store.find_key("env", "key") is None
    assert await store.calls("s-2") == []
    assert await store.acquire("s-2", T0, 30.0) is None


async def test_a_key_is_created_once_while_its_session_lives(store: SessionStore) -> None:
    assert await store.create(new("s-1", key="key", body_hash=b"one")) is None
    known = await store.create(new("s-2", key="key", body_hash=b"two"))
    assert known == await row_of(store)
    assert await store.get("s-2") is None
    assert await store.find(b"token of s-2") is None


async def test_a_key_is_one_environments_and_no_key_is_nobodys(store: SessionStore) -> None:
    made = [
        new("s-1", key="key"),
        new("s-2", key="key", environment="other"),
        new("s-3", key="other key"),
        new("s-4"),
        new("s-5"),
    ]
    assert [await store.create(each) for each in made] == [None] * 5
    found = await store.find_key("other", "key")
    assert found is not None
    assert found.session_id == "s-2"


async def test_two_who_create_a_key_at_once_get_one_session(store: SessionStore) -> None:
    results: list[SessionRow | None] = []

    async def create(session_id: str) -> None:
        results.append(await store.create(new(session_id, key="key")))

    async with anyio.create_task_group() as creating:
        for number in range(5):
            creating.start_soon(create, f"s-{number}")
    assert results.count(None) == 1
    known = await store.find_key("env", "key")
    assert results.count(known) == 4
    assert sum((await store.counts()).values()) == 1


@pytest.mark.parametrize("status", LIVING)
async def test_a_key_lives_as_long_as_its_session(store: SessionStore, status: Status) -> None:
    lease = await leased(store, key="key")
    await store.transition(lease, LIVING, status, T0)
    found = await store.find_key("env", "key")
    assert found is not None
    assert found.status == status


@pytest.mark.parametrize("status", sorted(ENDED))
async def test_a_key_is_free_again_when_its_session_has_ended(
    store: SessionStore, status: Status
) -> None:
    lease = await leased(store, key="key")
    await store.transition(lease, LIVING, status, T0)
    assert await store.find_key("env", "key") is None
    assert await store.create(new("s-2", key="key")) is None
    second = await row_of(store, "s-2")
    # what still happens to the first session leaves the key with the second
    await store.record_verdict(lease, verdict())
    await store.transition(lease, ENDED, "verifying", T0)
    await store.transition(lease, LIVING, "closed", T0)
    assert await store.find_key("env", "key") == second
    assert await store.create(new("s-3", key="key")) == second


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["open", *sorted(ENDED)])
async def test_every_token_opens_the_session_also_when_it_has_ended(
    store: SessionStore, status: Status
) -> None:
    lease = await leased(store)
    await store.add_token("s-1", b"second token")
    await store.transition(lease, LIVING, status, T0)
    row = await row_of(store)
    assert await store.find(b"token of s-1") == await store.find(b"second token") == found_of(row)
    assert row.status == status


async def test_a_token_for_a_session_that_is_gone_is_refused(store: SessionStore) -> None:
    with pytest.raises(StoreError):
        await store.add_token("s-1", b"second token")
    assert await store.find(b"second token") is None


# -- leases ----------------------------------------------------------------------------------------


async def test_one_at_a_time_holds_the_lease_and_each_under_a_greater_epoch(
    store: SessionStore,
) -> None:
    first = await leased(store)
    assert (first.session_id, first.expires_at) == ("s-1", T0 + 30)
    assert await store.acquire("s-1", T0 + 29.9, 30.0) is None
    second = await acquire(store, "s-1", T0 + 30, 30.0)
    assert second is not None
    await store.release(second)
    third = await acquire(store, "s-1", T0 + 31, 30.0)
    assert third is not None
    assert first.epoch < second.epoch < third.epoch
    assert (await row_of(store)).epoch == third.epoch


async def test_two_who_acquire_at_once_get_one_lease(store: SessionStore) -> None:
    await store.create(new())
    leases: list[Lease | None] = []

    async def take() -> None:
        leases.append(await acquire(store, "s-1", T0, 30.0))

    async with anyio.create_task_group() as acquiring:
        for _ in range(5):
            acquiring.start_soon(take)
    assert sum(lease is not None for lease in leases) == 1


async def test_a_lease_that_is_renewed_holds_longer(store: SessionStore) -> None:
    lease = await leased(store)
    renewed = await store.renew(lease, T0 + 20, 30.0)
    assert (renewed.epoch, renewed.expires_at) == (lease.epoch, T0 + 50)
    assert await store.acquire("s-1", T0 + 49, 30.0) is None
    assert await store.acquire("s-1", T0 + 50, 30.0) is not None


async def test_a_lease_that_ran_out_and_that_nobody_took_is_still_good(
    store: SessionStore,
) -> None:
    lease = await leased(store)
    await store.commit(lease, state=b'{"n":1}')
    renewed = await store.renew(lease, T0 + 60, 30.0)
    assert await store.acquire("s-1", T0 + 89, 30.0) is None
    await store.commit(renewed, state=b'{"n":2}')
    assert (await row_of(store)).state == b'{"n":2}'


async def test_releasing_a_lease_that_was_lost_leaves_it_with_its_holder(
    store: SessionStore,
) -> None:
    lost = await leased(store)
    held = await acquire(store, "s-1", T0 + 30, 30.0)
    assert held is not None
    await store.release(lost)
    assert await store.acquire("s-1", T0 + 31, 30.0) is None
    await store.release(Lease("never", 1, T0))
    await store.release(held)
    assert await store.acquire("s-1", T0 + 31, 30.0) is not None


@pytest.mark.parametrize("write", WRITES)
async def test_a_holder_that_was_overtaken_is_fenced_out_and_nothing_is_written(
    store: SessionStore, write: str
) -> None:
    overtaken = await leased(store)
    held = await acquire(store, "s-1", T0 + 30, 30.0)
    assert held is not None
    before = await row_of(store)
    with pytest.raises(LeaseLost):
        await WRITES[write](store, overtaken)
    assert await row_of(store) == before
    assert await store.calls("s-1") == []
    assert await store.acquire("s-1", T0 + 59, 30.0) is None
    await WRITES[write](store, held)


@pytest.mark.parametrize("write", WRITES)
async def test_a_session_that_is_gone_is_lost_to_its_holder(
    store: SessionStore, write: str
) -> None:
    lease = await leased(store)
    await store.transition(lease, LIVING, "closed", T0)
    assert await store.prune(T0 + 1) == 1
    with pytest.raises(LeaseLost):
        await WRITES[write](store, lease)
    assert await store.get("s-1") is None


# -- commits ---------------------------------------------------------------------------------------


async def test_a_commit_appends_the_call_and_changes_what_it_names(store: SessionStore) -> None:
    lease = await leased(store)
    await store.commit(lease, call=b"one", state=b'{"n":1}', used_at=T0 + 1)
    await store.commit(lease, call="zwei ü".encode(), counted="tool_error", used_at=T0 + 2)
    await store.commit(lease, counted="tool_error")
    await store.commit(lease, counted="timeout")
    await store.commit(lease)
    row = await row_of(store)
    assert await store.calls("s-1") == [b"one", "zwei ü".encode()]
    assert (row.state, row.used_at) == (b'{"n":1}', T0 + 2)
    assert dict(row.counts) == {"tool_error": 2, "timeout": 1}
    assert row.status == "open"


async def test_what_was_read_does_not_change_with_the_store(store: SessionStore) -> None:
    lease = await leased(store)
    row, calls = await row_of(store), await store.calls("s-1")
    await store.commit(lease, call=b"one", state=b'{"n":1}', counted="timeout")
    assert (row.state, dict(row.counts), calls) == (b"{}", {}, [])
    calls.append(b"nobody's")
    assert await store.calls("s-1") == [b"one"]


async def test_a_session_has_its_own_calls(store: SessionStore) -> None:
    one, two = await leased(store, "s-1"), await leased(store, "s-2")
    await store.commit(one, call=b"one")
    await store.commit(two, call=b"two")
    assert [await store.calls(each) for each in ("s-1", "s-2")] == [[b"one"], [b"two"]]
