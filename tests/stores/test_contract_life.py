"""What every session store does with a session's life: verdict, expiry, list, prune."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_args

import anyio
import pytest

from gymhost.errors import LeaseLost
from gymhost.stores import Lease, SessionStore, Status
from gymhost.stores.base import ENDED
from tests.stores.sessions import LIVING, T0, WRITES, acquire, leased, new, row_of, verdict


async def claim(
    store: SessionStore,
    now: float,
    environment: str = "env",
    *,
    status: Status = "expired",
    closing: bool = False,
) -> list[str]:
    """Claim what is expired after 10 s unused, 100 s idle or 1,000 s in all; return the ids."""
    rows = await store.claim_expired(
        now, unused=10.0, idle=100.0, total=1_000.0, environment=environment, closing=closing
    )
    assert all(row.status == status and row.ended_at == now for row in rows)
    for row in rows:
        assert row == (await row_of(store, row.session_id)).summary()
    return sorted(row.session_id for row in rows)


# -- life and verdict ------------------------------------------------------------------------------


async def test_a_transition_happens_from_an_allowed_status_alone(store: SessionStore) -> None:
    lease = await leased(store)
    assert not await store.transition(lease, ("verifying", "verify_failed"), "closed", T0 + 1)
    assert (await row_of(store)).status == "open"
    assert await store.transition(lease, ("open",), "verifying", T0 + 2)
    assert not await store.transition(lease, ("open",), "closed", T0 + 3)
    assert await store.transition(lease, ("verifying",), "verify_failed", T0 + 4)
    assert (await row_of(store)).ended_at is None
    assert await store.transition(lease, ("open", "verify_failed"), "closed", T0 + 5)
    row = await row_of(store)
    assert (row.status, row.ended_at) == ("closed", T0 + 5)


async def test_a_session_that_lives_again_has_not_ended(store: SessionStore) -> None:
    lease = await leased(store)
    await store.transition(lease, ("open",), "expired", T0 + 1)
    await store.transition(lease, ("expired",), "verifying", T0 + 2)
    row = await row_of(store)
    assert (row.status, row.ended_at) == ("verifying", None)
    assert await store.prune(T0 + 1_000) == 0


async def test_the_first_verdict_stays_and_ends_the_session(store: SessionStore) -> None:
    lease = await leased(store)
    first = verdict(b"one", failure_kind="timeout")
    assert await store.record_verdict(lease, first) == first
    assert await store.record_verdict(lease, verdict(b"two", recorded_at=T0 + 90)) == first
    row = await row_of(store)
    assert (row.verdict, row.status, row.ended_at) == (first, "verified", T0 + 50)


async def test_a_transition_keeps_the_verdict(store: SessionStore) -> None:
    lease = await leased(store)
    await store.record_verdict(lease, verdict())
    assert await store.transition(lease, ("verified",), "closed", T0 + 60)
    row = await row_of(store)
    assert (row.status, row.verdict, row.ended_at) == ("closed", verdict(), T0 + 60)


# -- expiry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used_at", "too_early", "in_time"),
    [
        (None, T0 + 9.9, T0 + 10),  # never used
        (T0 + 5, T0 + 104.9, T0 + 105),  # idle
        (T0 + 999, T0 + 999.9, T0 + 1_000),  # in use, and too old
    ],
    ids=["unused", "idle", "total"],
)
async def test_a_session_expires_unused_idle_or_too_old(
    store: SessionStore, used_at: float | None, too_early: float, in_time: float
) -> None:
    lease = await leased(store)
    if used_at is not None:
        await store.commit(lease, used_at=used_at)
    await store.release(lease)
    assert await claim(store, too_early) == []
    assert (await row_of(store)).status == "open"
    assert await claim(store, in_time) == ["s-1"]
    row = await row_of(store)
    assert (row.status, row.ended_at) == ("expired", in_time)
    assert await claim(store, in_time) == []


async def test_a_session_that_somebody_holds_does_not_expire(store: SessionStore) -> None:
    lease = await leased(store)
    await store.renew(lease, T0 + 20, 30.0)
    assert await claim(store, T0 + 49) == []
    assert await claim(store, T0 + 50) == ["s-1"]


async def test_a_holder_that_stalled_writes_no_more_into_a_session_that_has_expired(
    store: SessionStore,
) -> None:
    stalled = await leased(store)
    assert await claim(store, T0 + 30) == ["s-1"]
    for write in WRITES.values():
        with pytest.raises(LeaseLost):
            await write(store, stalled)
    assert (await row_of(store)).status == "expired"
    assert await store.calls("s-1") == []
    again = await acquire(store, "s-1", T0 + 30, 30.0)  # an expired one can still be verified
    assert again is not None
    await store.record_verdict(again, verdict())


@pytest.mark.parametrize("status", get_args(Status))
async def test_what_has_ended_does_not_expire(store: SessionStore, status: Status) -> None:
    lease = await leased(store)
    await store.transition(lease, LIVING, status, T0)
    await store.release(lease)
    assert await claim(store, T0 + 5_000) == ([] if status in ENDED else ["s-1"])


async def test_an_environments_sessions_expire_alone(store: SessionStore) -> None:
    await store.create(new("s-1"))
    await store.create(new("s-2", environment="other"))
    assert await claim(store, T0 + 10, "other") == ["s-2"]
    assert (await row_of(store, "s-1")).status == "open"
    assert await claim(store, T0 + 10, "nobody") == []


async def test_two_who_claim_at_once_get_each_session_once(store: SessionStore) -> None:
    for number in range(10):
        await store.create(new(f"s-{number}"))
    claimed: list[str] = []

    async def claim_some() -> None:
        claimed.extend(await claim(store, T0 + 10))

    async with anyio.create_task_group() as claiming:
        for _ in range(3):
            claiming.start_soon(claim_some)
    assert sorted(claimed) == [f"s-{number}" for number in range(10)]


# -- pinned sessions -------------------------------------------------------------------------------


async def test_a_pinned_session_is_its_makers_from_the_start(store: SessionStore) -> None:
    await store.create(new(pinned=True, leased_until=T0 + 30))
    assert (await row_of(store)).pinned
    assert await store.acquire("s-1", T0 + 29, 30.0) is None
    lease = await store.renew(Lease("s-1", 0, T0 + 30), T0 + 20, 30.0)
    await store.commit(lease, call=b"one")
    assert await claim(store, T0 + 49, status="lost") == []
    assert await store.calls("s-1") == [b"one"]


async def test_a_pinned_session_that_nobody_holds_is_lost(store: SessionStore) -> None:
    await store.create(new("s-1", pinned=True, leased_until=T0 + 5))
    await store.create(new("s-2"))
    assert await claim(store, T0 + 5, status="lost") == ["s-1"]
    assert (await row_of(store)).status == "lost"
    with pytest.raises(LeaseLost):
        await store.commit(Lease("s-1", 0, T0 + 5), call=b"late")
    assert (await row_of(store, "s-2")).status == "open"


# -- what the environment has yet to be told -------------------------------------------------------

ENDS: dict[str, Callable[[SessionStore, Lease], Awaitable[Any]]] = {
    "transition": lambda store, lease: store.transition(
        lease, LIVING, "closed", T0 + 1, closing=True
    ),
    "record_verdict": lambda store, lease: store.record_verdict(lease, verdict(), closing=True),
}


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_that_nobody_was_told_of_is_found_when_its_holder_is_gone(
    store: SessionStore, end: str
) -> None:
    lease = await leased(store)
    await ENDS[end](store, lease)
    assert (await row_of(store)).closing
    assert await store.claim_closing(T0 + 29, 30.0, environment="env") == []  # held
    assert await store.claim_closing(T0 + 30, 30.0, environment="other") == []
    (claimed,) = await store.claim_closing(T0 + 30, 30.0, environment="env")
    assert claimed.epoch > lease.epoch
    assert await store.claim_closing(T0 + 59, 30.0, environment="env") == []
    assert not await store.release(lease, closed=True)  # overtaken: it says nothing
    assert (await row_of(store)).closing
    assert await store.release(claimed, closed=True)
    assert not (await row_of(store)).closing
    assert await store.claim_closing(T0 + 90, 30.0, environment="env") == []


async def test_a_lease_given_back_untold_leaves_the_end_to_the_next(store: SessionStore) -> None:
    lease = await leased(store)
    await store.transition(lease, LIVING, "closed", T0 + 1, closing=True)
    assert await store.release(lease)
    assert len(await store.claim_closing(T0 + 2, 30.0, environment="env")) == 1


async def test_an_end_that_needs_no_telling_is_not_found(store: SessionStore) -> None:
    lease = await leased(store)
    await store.transition(lease, LIVING, "closed", T0 + 1)
    await store.release(lease)
    assert await store.claim_closing(T0 + 2, 30.0, environment="env") == []


async def test_what_expired_is_yet_to_be_told_a_few_at_a_time(store: SessionStore) -> None:
    for number in range(3):
        await store.create(new(f"s-{number}"))
    assert len(await claim(store, T0 + 10, closing=True)) == 3
    first = await store.claim_closing(T0 + 10, 30.0, environment="env", limit=2)
    rest = await store.claim_closing(T0 + 10, 30.0, environment="env", limit=2)
    ids = [lease.session_id for lease in (*first, *rest)]
    assert (len(first), sorted(ids)) == (2, ["s-0", "s-1", "s-2"])


async def test_an_expired_session_that_is_scored_is_told_of_once(store: SessionStore) -> None:
    await store.create(new())
    await claim(store, T0 + 10, closing=True)
    lease = await acquire(store, "s-1", T0 + 10, 30.0)
    assert lease is not None
    await store.record_verdict(lease, verdict())
    assert (await row_of(store)).closing
    await store.release(lease)
    (claimed,) = await store.claim_closing(T0 + 11, 30.0, environment="env")
    await store.release(claimed, closed=True)
    assert await store.claim_closing(T0 + 50, 30.0, environment="env") == []


# -- trajectories ----------------------------------------------------------------------------------


async def test_a_trajectory_is_kept_with_the_first_verdict(store: SessionStore) -> None:
    one, two = await leased(store, "s-1"), await leased(store, "s-2")
    await store.record_verdict(one, verdict(), trajectory=b"first")
    await store.record_verdict(one, verdict(b"other"), trajectory=b"second")
    await store.record_verdict(two, verdict())
    kept = [await store.trajectory(f"s-{number}") for number in (1, 2, 3)]
    assert kept == [b"first", None, None]
    await store.forget("s-1")
    assert await store.trajectory("s-1") is None


# -- list, count, prune ----------------------------------------------------------------------------


async def ids(store: SessionStore, **options: Any) -> tuple[list[str], str | None]:
    page = await store.list(**options)
    return [row.session_id for row in page.rows], page.cursor


async def test_sessions_are_listed_newest_first_in_pages(store: SessionStore) -> None:
    for number in range(5):
        await store.create(new(f"s-{number}"))
    assert await ids(store) == (["s-4", "s-3", "s-2", "s-1", "s-0"], None)
    first, cursor = await ids(store, limit=2)
    assert first == ["s-4", "s-3"]
    assert cursor is not None
    for number in range(5, 8):  # new ones do not shift the pages
        await store.create(new(f"s-{number}"))
    second, cursor = await ids(store, limit=2, cursor=cursor)
    assert second == ["s-2", "s-1"]
    assert cursor is not None
    assert await ids(store, limit=2, cursor=cursor) == (["s-0"], None)
    assert (await ids(store, limit=8))[1] is None


async def test_a_list_may_be_of_one_environment_or_status(store: SessionStore) -> None:
    for number, environment in enumerate(["env", "other", "env", "other", "env"]):
        await store.create(new(f"s-{number}", environment=environment))
    lease = await acquire(store, "s-2", T0, 30.0)
    assert lease is not None
    await store.transition(lease, LIVING, "closed", T0)
    assert await ids(store, environment="env") == (["s-4", "s-2", "s-0"], None)
    assert await ids(store, status="closed") == (["s-2"], None)
    assert await ids(store, environment="other", status="closed") == ([], None)
    first, cursor = await ids(store, environment="env", status="open", limit=1)
    assert first == ["s-4"]
    assert cursor is not None
    assert await ids(store, environment="env", status="open", cursor=cursor) == (["s-0"], None)


async def test_a_list_may_be_of_a_time(store: SessionStore) -> None:
    for number in range(4):
        await store.create(new(f"s-{number}", created_at=T0 + number))
    assert await ids(store, since=T0 + 2) == (["s-3", "s-2"], None)
    assert await ids(store, until=T0 + 2) == (["s-1", "s-0"], None)
    assert await ids(store, since=T0 + 1, until=T0 + 3) == (["s-2", "s-1"], None)
    assert await ids(store, since=T0 + 1, until=T0 + 1) == ([], None)
    first, cursor = await ids(store, until=T0 + 3, limit=2)
    assert first == ["s-2", "s-1"]
    assert await ids(store, until=T0 + 3, cursor=cursor) == (["s-0"], None)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 30, "\u0661", "1; drop table call"])
async def test_a_cursor_of_no_list_is_refused(store: SessionStore, cursor: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        await store.list(cursor=cursor)


async def test_a_list_tells_of_each_session_what_its_row_does(store: SessionStore) -> None:
    lease = await leased(store)
    await store.commit(lease, counted="timeout", used_at=T0 + 1)
    await store.record_verdict(lease, verdict(failure_kind="environment_error"))
    (listed,) = (await store.list()).rows
    assert listed == (await row_of(store)).summary()
    assert (listed.verdict, listed.used_at) == (verdict(failure_kind="environment_error"), T0 + 1)


async def test_sessions_are_counted_by_environment_and_status(store: SessionStore) -> None:
    assert dict(await store.counts()) == {}
    await store.create(new("s-1"))
    await store.create(new("s-2", environment="other"))
    lease = await leased(store, "s-3")
    assert dict(await store.counts()) == {("env", "open"): 2, ("other", "open"): 1}
    await store.transition(lease, LIVING, "verifying", T0)
    assert dict(await store.counts()) == {
        ("env", "open"): 1,
        ("env", "verifying"): 1,
        ("other", "open"): 1,
    }
    await store.record_verdict(lease, verdict())
    await store.prune(T0 + 100)
    assert dict(await store.counts()) == {("env", "open"): 1, ("other", "open"): 1}


async def test_what_ended_before_a_time_is_forgotten_whole(store: SessionStore) -> None:
    for number in range(3):
        lease = await leased(store, f"s-{number}", key=f"key-{number}")
        await store.add_token(f"s-{number}", f"second of {number}".encode())
        await store.commit(lease, call=b"call")
        await store.transition(lease, LIVING, "closed", T0 + number)
    await store.create(new("s-open"))
    assert await store.prune(T0) == 0
    assert await store.prune(T0 + 2) == 2
    assert await ids(store) == (["s-open", "s-2"], None)
    for number in range(2):
        assert await store.get(f"s-{number}") is None
        assert await store.find(f"token of s-{number}".encode()) is None
        assert await store.find(f"second of {number}".encode()) is None
        assert await store.calls(f"s-{number}") == []
        assert await store.create(new(f"s-{number}", key=f"key-{number}")) is None
        assert await store.calls(f"s-{number}") == []
    assert await store.prune(T0 + 2) == 0


async def test_an_environments_sessions_are_forgotten_alone(store: SessionStore) -> None:
    for name in ("env", "other"):
        lease = await leased(store, f"s-{name}", environment=name)
        await store.transition(lease, LIVING, "closed", T0)
    assert await store.prune(T0 + 1, environment="nobody") == 0
    assert await store.prune(T0 + 1, environment="other") == 1
    assert await ids(store) == (["s-env"], None)
    assert await store.prune(T0 + 1) == 1


async def test_what_its_environment_is_yet_to_be_told_of_is_not_forgotten(
    store: SessionStore,
) -> None:
    lease = await leased(store)
    await store.transition(lease, LIVING, "closed", T0, closing=True)
    assert await store.prune(T0 + 1) == 0
    await store.release(lease, closed=True)
    assert await store.prune(T0 + 1) == 1


@pytest.mark.parametrize("what", ["open", "used", "closed", "yet to be told"])
async def test_what_nobody_holds_of_an_environment_that_is_gone_is_forgotten(
    store: SessionStore, what: str
) -> None:
    lease = await leased(store, key="key")
    await store.create(new("s-2", environment="other"))
    if what != "open":
        await store.commit(lease, call=b"call", used_at=T0 + 10)
    if what in ("closed", "yet to be told"):
        await store.transition(lease, LIVING, "closed", T0 + 10, closing=what != "closed")
    touched = T0 if what == "open" else T0 + 10
    assert await store.prune_abandoned(T0 + 20, T0 + 29, environment="env") == 0
    await store.release(lease)
    assert await store.prune_abandoned(touched, T0 + 29, environment="env") == 0
    assert await store.prune_abandoned(touched + 1, T0 + 29, environment="env") == 1
    assert await store.get("s-1") is None
    assert await store.find(b"token of s-1") is None
    assert await store.calls("s-1") == []
    assert dict(await store.counts()) == {("other", "open"): 1}
    assert await store.create(new("s-3", key="key")) is None


async def test_sessions_that_end_out_of_order_are_forgotten_by_their_time(
    store: SessionStore,
) -> None:
    for session_id, ended_at in (("s-1", T0 + 9), ("s-2", T0 + 1)):
        lease = await leased(store, session_id)
        await store.transition(lease, LIVING, "closed", ended_at)
    assert await store.prune(T0 + 5) == 1
    assert await ids(store) == (["s-1"], None)


# -- forget ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", get_args(Status))
async def test_a_session_that_has_ended_is_forgotten_and_a_living_one_is_not(
    store: SessionStore, status: Status
) -> None:
    await store.create(new("s-2"))
    lease = await leased(store, key="key")
    await store.commit(lease, call=b"call")
    await store.transition(lease, LIVING, status, T0, closing=True)
    ended = status in ENDED
    assert await store.forget("s-1") == ended
    assert (await store.get("s-1") is None) == ended
    assert (await store.find(b"token of s-1") is None) == ended
    assert (await store.calls("s-1") == []) == ended
    assert await store.get("s-2") is not None
    if ended:
        assert await store.claim_closing(T0 + 60, 30.0, environment="env") == []
        assert dict(await store.counts()) == {("env", "open"): 1}
        assert not await store.release(lease, closed=True)
    assert not await store.forget("s-3")


async def test_a_store_that_works_says_so(store: SessionStore) -> None:
    await store.create(new())
    before = await row_of(store)
    await store.check()
    assert await row_of(store) == before
    assert dict(await store.counts()) == {("env", "open"): 1}
