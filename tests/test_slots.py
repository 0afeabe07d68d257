"""Whose turn it is in a session, and what this process knows of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from gymhost import ToolCall, ToolOutcome
from gymhost.errors import LeaseLost, StoreError, ToolRefused
from gymhost.session import NoState
from gymhost.slots import MASKING_KINDS, Slot, Turns
from gymhost.stores import NewSession
from tests.environments import Gate
from tests.faulty_store import FaultyStore

QUEUE = 16
SAME_INSTANT = range(20)
"""trio runs what is ready in any order: often enough to see each."""


async def settle() -> None:
    """Let every other task run until it waits; anyio's own way polls, on asyncio."""
    for _ in range(10):
        await checkpoint()


async def stays() -> None:
    """A caller that stays."""
    await anyio.sleep_forever()


class Caller:
    """One call that takes a turn, and holds it until it is told to end."""

    def __init__(
        self,
        turns: Turns,
        *,
        queue: int = QUEUE,
        gone: Callable[[], Awaitable[Any]] | None = stays,
    ) -> None:
        self._turns = turns
        self._queue = queue
        self._gone = gone
        self.scope = anyio.CancelScope()
        self.started = anyio.Event()
        self.end = anyio.Event()
        self.answered = anyio.Event()
        self.took: bool | None = None

    async def run(self) -> None:
        with self.scope:
            self.took = await self._turns.take(self._queue, self._gone)
            self.answered.set()
            if self.took:
                try:
                    self.started.set()
                    await self.end.wait()
                finally:
                    self._turns.give_back()


async def start(tasks: TaskGroup, *callers: Caller) -> None:
    """Let callers come one after another, each as far as it gets."""
    for caller in callers:
        tasks.start_soon(caller.run)
        await settle()


async def assert_free(turns: Turns) -> None:
    """Nobody holds the turn or waits for it: a call and a verify get it at once."""
    assert turns.waiting == 0
    with anyio.fail_after(5):
        assert await turns.take(0, stays)
        turns.give_back()
        await turns.take_all()
        turns.give_back()


@pytest.fixture
async def tasks() -> Any:
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            yield group
            group.cancel_scope.cancel()


# -- turns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [None, stays])
async def test_a_free_turn_is_taken_at_once_also_without_a_queue(gone: Any) -> None:
    turns = Turns()
    assert await turns.take(0, gone)
    assert turns.waiting == 0
    turns.give_back()
    await assert_free(turns)


@pytest.mark.parametrize("gone", [None, stays])
async def test_calls_run_one_at_a_time_in_the_order_of_their_arrival(
    tasks: TaskGroup, gone: Any
) -> None:
    turns = Turns()
    callers = [Caller(turns, gone=gone) for _ in range(5)]
    await start(tasks, *callers)
    for position, caller in enumerate(callers):
        await caller.started.wait()
        await settle()
        assert [each.started.is_set() for each in callers[position + 1 :]].count(True) == 0
        assert turns.waiting == len(callers) - position - 1
        caller.end.set()
    await settle()
    await assert_free(turns)


async def test_the_queue_is_bounded_and_has_room_again_when_one_leaves(tasks: TaskGroup) -> None:
    turns = Turns()
    holder, first, second, third = (Caller(turns, queue=2) for _ in range(4))
    await start(tasks, holder, first, second)
    with pytest.raises(ToolRefused, match="has 2 calls waiting already") as caught:
        await turns.take(2, stays)
    assert (caught.value.kind, caught.value.limit) == ("session_queue", "session_queue")
    assert turns.waiting == 2
    first.scope.cancel()
    await settle()
    await start(tasks, third)
    assert turns.waiting == 2
    holder.end.set()
    await second.started.wait()
    second.end.set()
    await third.started.wait()


async def test_a_call_whose_caller_goes_away_in_the_queue_never_starts(tasks: TaskGroup) -> None:
    turns = Turns()
    leaving = anyio.Event()
    holder, leaver, last = Caller(turns), Caller(turns, gone=leaving.wait), Caller(turns)
    await start(tasks, holder, leaver, last)
    leaving.set()
    await leaver.answered.wait()
    assert leaver.took is False
    assert turns.waiting == 1
    holder.end.set()
    await last.started.wait()
    assert not leaver.started.is_set()


async def test_a_caller_who_was_gone_before_it_queued_never_starts(tasks: TaskGroup) -> None:
    turns = Turns()
    holder, leaver = Caller(turns), Caller(turns, gone=checkpoint)
    await start(tasks, holder, leaver)
    assert leaver.took is False
    holder.end.set()
    await settle()
    await assert_free(turns)


@pytest.mark.parametrize("turn_first", [True, False])
async def test_a_caller_who_goes_away_as_its_turn_comes_never_starts(
    tasks: TaskGroup, turn_first: bool
) -> None:
    for _ in SAME_INSTANT:
        turns = Turns()
        leaving = anyio.Event()
        assert await turns.take(QUEUE, None)
        leaver = Caller(turns, gone=leaving.wait)
        await start(tasks, leaver)
        if turn_first:
            turns.give_back()
            leaving.set()
        else:
            leaving.set()
            turns.give_back()
        await leaver.answered.wait()
        assert leaver.took is False
        assert not leaver.started.is_set()
        await assert_free(turns)


async def test_the_caller_is_not_watched_any_more_once_its_turn_has_come(tasks: TaskGroup) -> None:
    turns = Turns()
    watching, watched = anyio.Event(), anyio.Event()

    async def watch() -> None:
        watching.set()
        try:
            await anyio.sleep_forever()
        finally:
            watched.set()

    assert await turns.take(QUEUE, None)
    caller = Caller(turns, gone=watch)
    await start(tasks, caller)
    assert watching.is_set()
    assert not watched.is_set()
    turns.give_back()
    await caller.started.wait()
    assert watched.is_set()


@pytest.mark.parametrize("gone", [None, stays])
async def test_a_waiter_that_is_cancelled_leaves_no_trace(tasks: TaskGroup, gone: Any) -> None:
    turns = Turns()
    holder, cancelled = Caller(turns), Caller(turns, gone=gone)
    await start(tasks, holder, cancelled)
    cancelled.scope.cancel()
    await settle()
    assert turns.waiting == 0
    holder.end.set()
    await settle()
    await assert_free(turns)


@pytest.mark.parametrize("gone", [None, stays])
@pytest.mark.parametrize("turn_first", [True, False])
async def test_a_waiter_that_is_cancelled_as_its_turn_comes_leaves_no_trace(
    tasks: TaskGroup, gone: Any, turn_first: bool
) -> None:
    for _ in SAME_INSTANT:
        turns = Turns()
        assert await turns.take(QUEUE, None)
        cancelled, last = Caller(turns, gone=gone), Caller(turns)
        await start(tasks, cancelled, last)
        if turn_first:
            turns.give_back()
            cancelled.scope.cancel()
        else:
            cancelled.scope.cancel()
            turns.give_back()
        await last.started.wait()
        last.end.set()
        await settle()
        await assert_free(turns)


# -- verify and close: all turns -------------------------------------------------------------------


async def test_take_all_waits_for_the_running_call_and_those_queued_before_it(
    tasks: TaskGroup,
) -> None:
    turns = Turns()
    running, queued = Caller(turns), Caller(turns)
    await start(tasks, running, queued)
    verify = Verify(turns)
    tasks.start_soon(verify.run)
    await settle()
    late = Caller(turns)
    await start(tasks, late)
    running.end.set()
    await queued.started.wait()
    await settle()
    assert not verify.began.is_set()
    queued.end.set()
    await verify.began.wait()
    await settle()
    assert not late.started.is_set()
    verify.end.set()
    await late.started.wait()


class Verify:
    """Something that takes all turns."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.scope = anyio.CancelScope()
        self.began = anyio.Event()
        self.end = anyio.Event()

    async def run(self) -> None:
        with self.scope:
            await self._turns.take_all()
            try:
                self.began.set()
                await self.end.wait()
            finally:
                self._turns.give_back()


async def test_take_all_waits_for_the_concurrent_calls(tasks: TaskGroup) -> None:
    turns = Turns()
    turns.begin_concurrent(QUEUE)
    turns.begin_concurrent(QUEUE)
    verify = Verify(turns)
    tasks.start_soon(verify.run)
    await settle()
    turns.end_concurrent()
    await settle()
    assert not verify.began.is_set()
    turns.begin_concurrent(QUEUE)  # one more, while it waits
    turns.end_concurrent()
    turns.end_concurrent()
    await verify.began.wait()
    verify.end.set()
    await settle()
    await assert_free(turns)


async def test_a_concurrent_call_that_begins_as_the_last_one_ends_is_waited_for(
    tasks: TaskGroup,
) -> None:
    turns = Turns()
    turns.begin_concurrent(QUEUE)
    verify = Verify(turns)
    tasks.start_soon(verify.run)
    await settle()
    turns.end_concurrent()
    turns.begin_concurrent(QUEUE)
    await settle()
    assert not verify.began.is_set()
    turns.end_concurrent()
    await verify.began.wait()


@pytest.mark.parametrize("concurrent", [True, False], ids=["concurrent", "queued"])
async def test_a_take_all_that_is_cancelled_leaves_no_trace(
    tasks: TaskGroup, concurrent: bool
) -> None:
    turns = Turns()
    if concurrent:
        turns.begin_concurrent(QUEUE)
    else:
        assert await turns.take(QUEUE, None)
    verify = Verify(turns)
    tasks.start_soon(verify.run)
    await settle()
    verify.scope.cancel()
    await settle()
    assert turns.waiting == 0
    if concurrent:
        turns.end_concurrent()
    else:
        turns.give_back()
    await assert_free(turns)


# -- a slot ----------------------------------------------------------------------------------------


async def commit(
    slot: Slot, store: FaultyStore, call: ToolCall, state: bytes | None, now: float
) -> None:
    assert call.outcome is not None
    await slot.commit(store, call.outcome.kind, call.dump(), state, now)


async def a_slot(store: FaultyStore) -> Slot:
    new = NewSession("s-1", "env", b"token", b"{}", b"{}", None, 100.0)
    await store.create(new)
    held = await store.acquire("s-1", 100.0, 30.0)
    assert held is not None
    return Slot(held.row, held.calls, held.lease, 0.0)


def a_call(outcome: ToolOutcome | None = None) -> ToolCall:
    return ToolCall(
        "c-1", "look", {"city": "Zürich"}, 101.0, 0.5, outcome or ToolOutcome.ok("fine")
    )


async def test_a_commit_is_in_the_store_and_in_the_slot() -> None:
    store = FaultyStore()
    slot = await a_slot(store)
    await commit(slot, store, a_call(), b'{"n":1}', 102.0)
    await commit(slot, store, a_call(ToolOutcome.error("no")), None, 103.0)
    await commit(slot, store, a_call(ToolOutcome.error("no")), None, 104.0)
    kept = await store.get("s-1")
    assert kept is not None
    for row in (kept, slot.row):
        assert (row.state, row.used_at, row.counts) == (b'{"n":1}', 104.0, {"tool_error": 2})
    assert slot.calls == await store.calls("s-1")
    assert [each.error for each in slot.session(NoState).calls] == [None, "no", "no"]


@pytest.mark.parametrize("error", [StoreError("disk full"), LeaseLost("taken over")], ids=repr)
async def test_a_commit_that_fails_is_nowhere(error: Exception) -> None:
    store = FaultyStore()
    slot = await a_slot(store)
    before = replace(slot.row)
    store.broken["commit"] = error
    with pytest.raises(type(error)):
        await commit(slot, store, a_call(), b'{"n":1}', 102.0)
    assert slot.row == before
    assert slot.calls == []


async def test_two_commits_at_once_are_both_counted() -> None:
    store = FaultyStore()
    slot = await a_slot(store)
    store.gates_after["commit"] = gate = Gate()
    failure = a_call(ToolOutcome.error("no"))
    async with anyio.create_task_group() as committing:
        for _ in range(2):
            committing.start_soon(commit, slot, store, failure, None, 102.0)
        await settle()
        gate.open()
    assert slot.row.counts == {"tool_error": 2}
    assert len(slot.calls) == 2


@pytest.mark.parametrize("kind", MASKING_KINDS)
async def test_what_is_not_the_agents_fault_spoils_the_sample(kind: str) -> None:
    store = FaultyStore()
    slot = await a_slot(store)
    for harmless in ("tool_error", "unknown_tool", "invalid_arguments", "limit", "timeout"):
        await commit(slot, store, a_call(ToolOutcome.error("no", harmless)), None, 102.0)
    assert slot.failure_kind is None
    await commit(slot, store, a_call(ToolOutcome.error("no", kind)), None, 102.0)
    assert slot.failure_kind == kind


async def test_a_store_that_failed_spoils_the_sample() -> None:
    slot = await a_slot(FaultyStore())
    slot.store_failed = True
    assert slot.failure_kind == "store_error"
