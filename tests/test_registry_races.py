"""What comes in between while the store is slow: each await of the registry, held open."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from gymhost.registry import LEASE_SECONDS
from gymhost.slots import Slot
from tests.environments import Gate
from tests.processes import Process, create


async def settle() -> None:
    """Let every other task run until it waits."""
    for _ in range(20):
        await checkpoint()


class Uses:
    """Uses of sessions, in tasks of their own."""

    def __init__(self, process: Process, tasks: TaskGroup) -> None:
        self._process = process
        self._tasks = tasks
        self.slots: list[Slot] = []

    def start(self, session_id: str = "s-1") -> None:
        self._tasks.start_soon(self._use, session_id)

    async def _use(self, session_id: str) -> None:
        self.slots.append(await self._process.use(session_id))


@pytest.fixture
async def process() -> Process:
    process = Process()
    for session_id in ("s-1", "s-2"):
        await create(process.store, session_id)
    return process


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            yield group
            group.cancel_scope.cancel()


@pytest.mark.parametrize("verb", ["find", "acquire"])
async def test_first_uses_at_once_share_one_slot(
    process: Process, tasks: TaskGroup, verb: str
) -> None:
    process.faulty.gates[verb] = gate = Gate()
    uses = Uses(process, tasks)
    for _ in range(4):
        uses.start()
    await settle()
    assert uses.slots == []
    gate.open()
    await settle()
    assert len(uses.slots) == 4
    assert len(set(map(id, uses.slots))) == 1
    assert uses.slots[0].lease.epoch == 1


async def test_sessions_never_wait_for_each_other(process: Process, tasks: TaskGroup) -> None:
    process.faulty.gates["acquire"] = gate = Gate()
    uses = Uses(process, tasks)
    uses.start("s-1")
    await gate.reached.wait()
    process.faulty.gates.clear()
    slot = await process.use("s-2")
    assert slot.id == "s-2"
    assert uses.slots == []
    gate.open()
    await settle()
    assert uses.slots[0].id == "s-1"


async def test_a_use_that_comes_while_a_lease_is_given_back_waits_for_it(
    process: Process, tasks: TaskGroup
) -> None:
    first = await process.use()
    process.faulty.gates["release"] = gate = Gate()
    tasks.start_soon(process.registry.drop, first)
    await gate.reached.wait()
    uses = Uses(process, tasks)
    uses.start()
    await settle()
    assert uses.slots == []
    gate.open()
    await settle()
    (second,) = uses.slots
    assert second is not first
    assert second.lease.epoch == first.lease.epoch + 1
    assert not await process.is_free()


async def test_a_use_that_comes_before_an_idle_session_is_let_go_of_keeps_it(
    process: Process, tasks: TaskGroup
) -> None:
    slot = await process.use("s-1")
    await process.use("s-2")
    process.clock.now += LEASE_SECONDS
    process.faulty.gates["release"] = gate = Gate()
    tasks.start_soon(process.registry.maintain)
    await gate.reached.wait()  # one of the two is going; the other is not yet looked at
    kept = await process.use("s-2")
    gate.open()
    await settle()
    assert await process.use("s-2") is kept
    assert not await process.is_free("s-2")
    assert await process.is_free("s-1")
    assert await process.use("s-1") is not slot


async def test_maintenance_does_not_take_back_what_was_let_go_of_meanwhile(
    process: Process, tasks: TaskGroup
) -> None:
    await process.use("s-1")
    ending = await process.use("s-2")
    process.faulty.gates["renew"] = gate = Gate()
    tasks.start_soon(process.registry.maintain)
    await gate.reached.wait()  # s-1 is being renewed; s-2 is to be next
    await process.registry.drop(ending)
    gate.open()
    await settle()
    assert await process.is_free("s-2")
    assert not await process.is_free("s-1")


async def test_a_session_is_given_back_after_its_renewal_not_before(
    process: Process, tasks: TaskGroup
) -> None:
    slot = await process.use()
    process.faulty.gates["renew"] = gate = Gate()
    tasks.start_soon(process.registry.maintain)
    await gate.reached.wait()
    tasks.start_soon(process.registry.drop, slot)
    await settle()
    gate.open()
    await settle()
    assert await process.is_free()


async def test_a_call_goes_on_while_its_lease_is_renewed(
    process: Process, tasks: TaskGroup
) -> None:
    slot = await process.use()
    slot.users += 1
    process.faulty.gates_after["renew"] = gate = Gate()
    tasks.start_soon(process.registry.maintain)
    await gate.reached.wait()
    await process.store.commit(slot.lease, state=b"[1]")
    assert await process.use() is slot
    gate.open()
    await settle()
    await process.store.commit(slot.lease, state=b"[2]")
    assert await process.use() is slot


async def test_letting_go_twice_leaves_the_next_one_alone(process: Process) -> None:
    first = await process.use()
    await process.registry.drop(first)
    second = await process.use()
    await process.registry.drop(first)
    assert await process.use() is second
    assert not await process.is_free()


async def test_a_token_that_is_found_as_its_session_is_let_go_of_opens_it_anew(
    process: Process, tasks: TaskGroup
) -> None:
    first = await process.use()
    await process.registry.drop(first)
    process.faulty.gates_after["find"] = gate = Gate()
    uses = Uses(process, tasks)
    uses.start()
    await gate.reached.wait()  # the row is found; the slot is not yet opened
    by_id = await process.registry.by_id("env", "s-1")
    await process.registry.drop(by_id)
    gate.open()
    await settle()
    (found,) = uses.slots
    assert found not in (first, by_id)
    assert await process.use() is found
    await process.store.commit(found.lease, state=b"[1]")


async def test_whoever_waits_for_a_turn_in_a_session_that_was_let_go_of_still_gets_it(
    process: Process, tasks: TaskGroup
) -> None:
    slot = await process.use()
    assert await slot.turns.take(16, None)
    turns: list[bool] = []

    async def take() -> None:
        turns.append(await slot.turns.take(16, anyio.sleep_forever))
        slot.turns.give_back()

    tasks.start_soon(take)
    await settle()
    await process.registry.drop(slot)
    slot.turns.give_back()
    await settle()
    assert turns == [True]


async def test_the_first_calls_of_a_session_come_in_the_order_of_their_arrival(
    process: Process, tasks: TaskGroup
) -> None:
    order: list[int] = []

    async def call(number: int) -> None:
        slot = await process.use()
        assert await slot.turns.take(16, anyio.sleep_forever)
        order.append(number)
        await checkpoint()
        slot.turns.give_back()

    async def arrive() -> None:
        async with anyio.create_task_group() as calling:
            for number in range(5):
                arrived = anyio.Event()

                async def one(number: int = number, arrived: anyio.Event = arrived) -> None:
                    arrived.set()
                    await call(number)

                calling.start_soon(one)
                await arrived.wait()

    await arrive()
    assert order == [0, 1, 2, 3, 4]
