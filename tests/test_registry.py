"""Tokens to sessions: who gets in, and when this process lets go of a session."""

from __future__ import annotations

import base64
import gc
import hashlib
import logging
from collections.abc import Iterator
from types import FunctionType, ModuleType

import anyio
import pytest

from gymhost import testing
from gymhost.errors import LeaseLost, OverCapacity, SessionLost, StoreError, ToolRefused
from gymhost.registry import LEASE_SECONDS, MINTED, hash_token, mint_session_id, mint_token
from gymhost.stores import ENDED, Status
from tests.environments import Diary, Gate
from tests.processes import TOKEN, Process, create
from tests.served import HandClock, serve


@pytest.fixture
async def process() -> Process:
    process = Process()
    await create(process.store)
    return process


# -- tokens ----------------------------------------------------------------------------------------


def test_a_token_is_256_random_bits_and_an_id_128() -> None:
    tokens = {mint_token() for _ in range(1_000)}
    assert len(tokens) == 1_000
    for token in tokens:
        assert len(base64.urlsafe_b64decode(token + "=")) == 32
        assert token.isascii()
    ids = {mint_session_id() for _ in range(1_000)}
    assert {len(bytes.fromhex(each)) for each in ids} == {16}
    assert len(ids) == 1_000
    # each bit is as often set as not
    ones = sum(int.from_bytes(base64.urlsafe_b64decode(t + "=")).bit_count() for t in tokens)
    assert 0.49 < ones / 256_000 < 0.51


def test_what_is_kept_of_a_token_is_its_sha256() -> None:
    assert hash_token("ü") == hashlib.sha256("ü".encode()).digest()


async def test_a_token_opens_its_session_again_and_again(process: Process) -> None:
    slot = await process.use()
    assert slot.id == "s-1"
    assert await process.use() is slot
    assert await process.registry.by_id("env", "s-1") is slot


async def test_every_token_of_a_session_opens_the_same(process: Process) -> None:
    slot = await process.use()
    await process.store.add_token("s-1", hash_token("another"))
    assert await process.registry.by_token("env", "another") is slot


@pytest.mark.parametrize(
    "token", [None, "", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "s-1", "ü" * 10_000, "\ud83d"]
)
@pytest.mark.parametrize("opened", [False, True])
async def test_what_is_no_token_of_a_session_opens_nothing(
    process: Process, token: str | None, opened: bool
) -> None:
    if opened:
        await process.use()
    with pytest.raises(ToolRefused) as caught:
        await process.registry.by_token("env", token)
    assert caught.value.kind == "no_session"
    assert token is None or token == "" or token not in str(caught.value)


@pytest.mark.parametrize("opened", [False, True])
async def test_another_environments_token_is_told_the_same_as_none_at_all(
    process: Process, opened: bool
) -> None:
    if opened:
        await process.use()
    texts = []
    for environment, token in (("other", TOKEN), ("env", "forged")):
        with pytest.raises(ToolRefused) as caught:
            await process.registry.by_token(environment, token)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert opened or await process.is_free()  # what may not be opened is not taken either


@pytest.mark.parametrize("opened", [False, True])
async def test_another_environments_session_or_none_is_lost(process: Process, opened: bool) -> None:
    if opened:
        await process.use()
    for environment, session_id in (("other", "s-1"), ("env", "s-2"), ("env", TOKEN)):
        with pytest.raises(SessionLost, match="is known in"):
            await process.registry.by_id(environment, session_id)


async def test_to_peek_takes_nothing(process: Process) -> None:
    row = await process.registry.peek(TOKEN)
    assert row is not None
    assert row.session_id == "s-1"
    assert await process.is_free()
    assert await process.registry.peek("forged") is None
    slot = await process.use()
    assert await process.registry.peek(TOKEN) is slot.row


def reachable(*roots: object) -> Iterator[object]:
    """Every object that can be reached from the roots, code aside."""
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, FunctionType | ModuleType | type):
            continue
        seen.add(id(each))
        yield each
        todo.extend(gc.get_referents(each))


async def test_a_token_is_nowhere_in_the_memory_of_the_host() -> None:
    async with serve({"diary": Diary}) as served:
        session = await served.seed("diary", idempotency_key="key")
        again = await served.seed("diary", idempotency_key="key")
        assert session.id == again.id
        assert session.token != again.token
        assert (await served.call(session, "write", note="canary")).text == "canary"
        await served.call(again, "write", note="more")
        host = served.host
        roots = (host.store, host.registry, host._seeding, host._calling, host.mounts)
        kept = list(reachable(*roots))
        found = 0
        for each in kept:
            if isinstance(each, str):
                assert session.token not in each
                assert again.token not in each
            elif isinstance(each, bytes):
                assert session.token.encode() not in each
                assert again.token.encode() not in each
                found += b"canary" in each
        assert found  # the walk does get to what the store keeps
        assert hash_token(session.token) in kept
        record = await served.record(session)
        assert session.token not in str(record)


async def test_the_store_is_not_asked_for_a_token_that_was_just_minted(process: Process) -> None:
    process.registry.expect("env", "s-1", hash_token(TOKEN))
    process.faulty.fail("find")
    assert (await process.use()).id == "s-1"
    assert not await process.is_free()


async def test_a_minted_token_opens_its_environment_alone(process: Process) -> None:
    process.registry.expect("env", "s-1", hash_token(TOKEN))
    with pytest.raises(ToolRefused, match="not valid here") as caught:
        await process.registry.by_token("other", TOKEN)
    assert caught.value.kind == "no_session"
    assert await process.is_free()
    assert (await process.use()).id == "s-1"


@pytest.mark.parametrize("status", sorted(ENDED))
async def test_a_session_that_has_ended_before_its_first_use_is_not_held(
    process: Process, status: Status
) -> None:
    process.registry.expect("env", "s-1", hash_token(TOKEN))
    held = await process.store.acquire("s-1", process.clock.now, LEASE_SECONDS)
    assert held is not None
    await process.store.transition(held.lease, ("open",), status, process.clock.now)
    await process.store.release(held.lease)
    for _ in range(2):
        with pytest.raises(ToolRefused, match="The session has ended") as caught:
            await process.use()
        assert caught.value.kind == "session_ended"
        assert await process.is_free()


async def test_a_token_does_not_keep_what_has_ended_though_it_is_still_here(
    process: Process,
) -> None:
    slot = await process.registry.by_id("env", "s-1")
    await process.store.transition(slot.lease, ("open",), "expired", process.clock.now)
    slot.row.status = "expired"
    process.registry.expect("env", "s-1", hash_token(TOKEN))
    used_at = slot.used_at
    process.clock.now += 20
    for _ in range(2):
        with pytest.raises(ToolRefused, match="The session has ended") as caught:
            await process.use()
        assert caught.value.kind == "session_ended"
    assert slot.used_at == used_at
    process.clock.now += LEASE_SECONDS
    await process.registry.maintain()
    assert await process.is_free()


async def test_a_session_that_was_forgotten_before_its_first_use_has_no_token(
    process: Process,
) -> None:
    process.registry.expect("env", "s-1", hash_token(TOKEN))
    (entry,) = process.faulty._entries.values()
    process.faulty._set_status(entry, "closed", 0.0, closing=False)
    assert await process.store.forget("s-1")
    for _ in range(2):
        with pytest.raises(ToolRefused, match="not valid here") as caught:
            await process.use()
        assert caught.value.kind == "no_session"


async def test_minted_tokens_that_are_not_used_are_few(process: Process) -> None:
    process.registry.expect("env", "s-1", hash_token(TOKEN))
    for number in range(MINTED):
        process.registry.expect("env", f"s-{number}", b"%d" % number)
    assert len(process.registry._minted) == MINTED
    assert (await process.use()).id == "s-1"  # the store knows it


async def test_of_a_store_that_is_asked_at_no_cost_no_tokens_are_kept() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        assert served.host.registry._minted == {}
        assert (await served.call(session, "write", note="a")).text == "a"


# -- leases ----------------------------------------------------------------------------------------


async def test_a_session_in_use_is_no_other_processes(process: Process) -> None:
    await process.use()
    other = process.another()
    with pytest.raises(ToolRefused, match="Try again in half a minute") as caught:
        await other.use()
    assert caught.value.kind == "over_capacity"
    with pytest.raises(OverCapacity, match="is in use by another process"):
        await other.registry.by_id("env", "s-1")
    process.clock.now += LEASE_SECONDS
    assert (await other.use()).lease.epoch == 2


async def test_a_session_that_goes_as_it_is_opened_has_no_token(process: Process) -> None:
    process.faulty.gates["acquire"] = gate = Gate()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as opening:

            async def use() -> None:
                with pytest.raises(ToolRefused, match="not valid here"):
                    await process.use()

            opening.start_soon(use)
            await gate.reached.wait()
            (entry,) = process.faulty._entries.values()
            process.faulty._set_status(entry, "closed", 0.0, closing=False)
            assert await process.store.prune(1.0) == 1
            gate.open()


@pytest.mark.parametrize("verb", ["find", "acquire"])
async def test_a_session_that_could_not_be_read_is_not_kept_from_others(
    process: Process, verb: str
) -> None:
    process.faulty.fail(verb)
    with pytest.raises(StoreError):
        await process.use()
    process.faulty.broken.clear()
    assert await process.is_free()
    assert (await process.use()).id == "s-1"


async def test_opening_that_is_cancelled_does_not_keep_the_session_from_others(
    process: Process,
) -> None:
    process.faulty.gates["acquire"] = gate = Gate()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as opening:
            opening.start_soon(process.use)
            await gate.reached.wait()
            process.faulty.gates["release"] = Gate()  # where a cancelled one would stop
            process.faulty.gates["release"].open()
            opening.cancel_scope.cancel()
    process.faulty.gates.clear()
    assert await process.is_free()
    assert (await process.use()).id == "s-1"


async def test_a_lease_that_can_not_be_given_back_is_no_error(process: Process) -> None:
    slot = await process.use()
    process.faulty.fail("release")
    await process.registry.drop(slot)
    assert not await process.is_free()
    process.clock.now += LEASE_SECONDS
    assert (await process.use()) is not slot


async def test_a_store_that_fails_to_say_why_there_is_no_lease_is_a_failure(
    process: Process,
) -> None:
    await process.another().use()
    process.faulty.fail("get")
    with pytest.raises(StoreError):
        await process.use()
    process.faulty.broken.clear()
    with pytest.raises(ToolRefused, match="Try again in half a minute"):
        await process.use()


# -- maintenance -----------------------------------------------------------------------------------


async def test_what_nobody_uses_for_a_while_is_let_go_of(process: Process) -> None:
    slot = await process.use()
    process.clock.now += LEASE_SECONDS - 1
    await process.registry.maintain()
    assert await process.use() is slot
    process.clock.now += LEASE_SECONDS - 1  # counted from its last use
    await process.registry.maintain()
    assert not await process.is_free()
    process.clock.now += 1
    await process.registry.maintain()
    assert await process.is_free()
    assert await process.use() is not slot


async def test_what_is_in_use_is_kept_however_long(process: Process) -> None:
    slot = await process.use()
    slot.users += 1
    for _ in range(20):
        process.clock.now += LEASE_SECONDS / 2
        await process.registry.maintain()
        assert not await process.is_free()
    assert await process.use() is slot
    assert slot.lease.expires_at == process.clock.now + LEASE_SECONDS


async def test_a_session_that_was_taken_over_is_dropped_and_can_not_be_written(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    slot = await process.use()
    slot.users += 1
    process.clock.now += LEASE_SECONDS  # this process was asleep
    other = process.another()
    taken = await other.use()
    await process.registry.maintain()
    assert "session s-1 was taken over by another process" in caplog.text
    with pytest.raises(LeaseLost):
        await process.store.commit(slot.lease, state=b"[]")
    with pytest.raises(ToolRefused, match="Try again"):
        await process.use()
    await other.registry.drop(taken)
    again = await process.use()
    assert again is not slot
    await process.store.commit(again.lease, state=b"[]")


async def test_a_store_that_fails_for_a_while_loses_no_session(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    await create(process.store, "s-2")
    slots = [await process.use("s-1"), await process.use("s-2")]
    for slot in slots:
        slot.users += 1
    process.faulty.fail("renew")
    await process.registry.maintain()
    failures = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(failures) == 2
    process.faulty.broken.clear()
    process.clock.now += LEASE_SECONDS - 1
    await process.registry.maintain()
    process.clock.now += LEASE_SECONDS - 1
    assert not await process.is_free("s-1")
    assert not await process.is_free("s-2")
    assert [await process.use("s-1"), await process.use("s-2")] == slots


async def test_at_the_end_every_lease_is_given_back(process: Process) -> None:
    await create(process.store, "s-2")
    for session_id in ("s-1", "s-2"):
        (await process.use(session_id)).users += 1
    await process.registry.drop_all()
    assert await process.is_free("s-1")
    assert await process.is_free("s-2")


async def test_the_host_maintains_its_leases() -> None:
    clock = HandClock()
    async with testing.client({"diary": Diary}, clock=clock) as client:
        seeded = await client.seed("diary")
        assert seeded.mcp is not None
        (token,) = seeded.mcp.headers.values()
        await client.host.call_tool("diary", token, "write", {"note": "a"})
        registry = client.host.registry
        slot = await registry.by_id("diary", seeded.session_id)
        clock.now += LEASE_SECONDS
        await client.host.maintain()
        assert await registry.by_id("diary", seeded.session_id) is not slot
