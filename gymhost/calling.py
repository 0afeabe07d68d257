"""How a tool call runs: in its turn, on a private state, and into the record."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anyio
import pydantic_core

from gymhost.clock import Clock
from gymhost.deadlines import Interrupted
from gymhost.ending import Ending, expires_at, is_stray
from gymhost.errors import (
    CallTimeout,
    RequestError,
    StoreError,
    ToolError,
    ToolRefused,
    UnknownTool,
    is_crash,
)
from gymhost.models import JSONObject, ToolCall, ToolOutcome, finite_json
from gymhost.mount import Mount
from gymhost.registry import Registry, hash_token, mint_session_id
from gymhost.session import Session
from gymhost.shields import shield
from gymhost.slots import Slot
from gymhost.stores import Found, SessionStore
from gymhost.tools import Tool

__all__ = ["Calling"]

logger = logging.getLogger("gymhost.calls")

DEPTH = 150
"""Fewer brackets than that can't nest deeper than pydantic's JSON parser goes, which is 200."""


class Calling:
    """Runs tool calls."""

    def __init__(
        self, store: SessionStore, registry: Registry, clock: Clock, ending: Ending
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._ending = ending
        self._spoiled: set[bytes] = set()
        """Tokens, hashed, of sessions that the store has failed and could not be told of it."""
        self._settling = anyio.Lock()

    async def settle(self, session_id: str | None = None) -> None:
        """Write down which sessions the store has failed, so that their samples stay masked.

        Raises: StoreError: it fails still; RequestError: `session_id` is one of them, and this
        could not be written down. The others' trouble is not its own.
        """
        if not self._spoiled:
            return
        async with self._settling:
            for token_hash in list(self._spoiled):
                found = await self._store.find(token_hash)
                if found is not None:
                    try:
                        await self._note_store_error(found)
                    except RequestError:
                        if found.session_id == session_id:
                            raise
                        logger.exception("session %s is yet to be masked", found.session_id)
                        continue
                self._spoiled.discard(token_hash)

    async def _note_store_error(self, found: Found) -> None:
        slot = await self._registry.by_id(found.environment, found.session_id)
        if not slot.row.is_final:  # else it is as it is
            await self._note(slot, "store_error")

    async def _note(self, slot: Slot, kind: str) -> None:
        await self._store.commit(slot.lease, counted=kind)
        slot.count(kind)

    async def refuse_for_stop(self, mount: Mount, token: str | None) -> ToolOutcome:
        """Refuse a call because the server stops, which is none of the agent's doing.

        Where the session outlives this process, its sample is masked, as by a call cut short.
        """
        mount.counts["refused"] += 1
        try:
            slot = await self._registry.by_token(mount.name, token)
            if slot.row.status == "open" and not slot.shut and "cancelled" not in slot.row.counts:
                await self._note(slot, "cancelled")
                mount.counts["cancelled"] += 1
        except (ToolRefused, RequestError) as exc:
            logger.warning("a stop has refused a call of %s: %s", mount.name, exc)
        return ToolOutcome.error("The server is stopping.", "refused")

    async def call_tool(
        self,
        mount: Mount,
        token: str | None,
        tool_name: str,
        arguments: JSONObject,
        gone: Callable[[], Awaitable[Any]] | None,
        stays: bool,
    ) -> ToolOutcome:
        """Run one tool call of an agent. A failure is an outcome, not an error.

        `stays`: nothing cancels the caller.
        """
        try:
            return await self._call_tool(mount, token, tool_name, arguments, gone, stays)
        except ToolRefused as exc:
            mount.counts[exc.kind] += 1
            if exc.limit is not None:
                mount.hit(exc.limit)
            return ToolOutcome.error(str(exc), exc.kind)
        except RequestError as exc:
            mount.counts[exc.failure_kind] += 1
            logger.exception("a tool call of %s could not begin", mount.name)
            if isinstance(exc, StoreError) and token:
                self._spoiled.add(hash_token(token))
            return ToolOutcome.error("The tool call could not begin. Try again.", exc.failure_kind)

    async def _call_tool(
        self,
        mount: Mount,
        token: str | None,
        tool_name: str,
        arguments: JSONObject,
        gone: Callable[[], Awaitable[Any]] | None,
        stays: bool,
    ) -> ToolOutcome:
        slot = await self._registry.by_token(mount.name, token)
        limits = mount.limits
        if mount.calls_in_flight >= limits.calls_in_flight:
            raise ToolRefused(
                "The server is busy. Try again in a moment.",
                "over_capacity",
                limit="calls_in_flight",
            )
        tool, turns = mount.tools.get(tool_name), slot.turns
        slot.users += 1
        mount.calls_in_flight += 1
        try:
            if slot.users == 1 and self._is_over(mount, slot):
                await self._ending.end(mount, slot, "expired", "expired")
            _refuse_ended(slot)
            if tool is not None and tool.options.concurrent:
                turns.begin_concurrent(limits.session_queue)
                try:
                    return await self._run_call(mount, slot, tool, tool_name, arguments, stays)
                finally:
                    turns.end_concurrent()
            waits = not turns.take_free()
            if waits and not await turns.take(limits.session_queue, gone):
                raise ToolRefused("The caller went away before the call began.", "abandoned")
            try:
                if mount.is_interrupted:
                    raise Interrupted
                if waits:
                    _refuse_ended(slot)  # it may have ended meanwhile
                return await self._run_call(mount, slot, tool, tool_name, arguments, stays)
            finally:
                turns.give_back()
        finally:
            slot.users -= 1
            mount.calls_in_flight -= 1

    def _is_over(self, mount: Mount, slot: Slot) -> bool:
        return (
            expires_at(slot.row, mount.limits) <= self._clock.time()
            and slot.row.status == "open"
            and not slot.shut
        )

    async def _run_call(
        self,
        mount: Mount,
        slot: Slot,
        tool: Tool | None,
        tool_name: str,
        arguments: JSONObject,
        stays: bool,
    ) -> ToolOutcome:
        if len(slot.calls) + slot.running >= mount.limits.session_calls:
            raise ToolRefused(
                f"The session has made {mount.limits.session_calls} calls, the most it may.",
                "session_calls",
                limit="session_calls",
            )
        read_only = tool is not None and tool.options.concurrent
        session = slot.session(mount.instance.state_type, read_only=read_only)
        call = ToolCall(mint_session_id(), tool_name, arguments, self._clock.time())
        slot.running += 1
        try:
            return await self._run_and_record(mount, slot, session, call, tool, stays)
        finally:
            slot.running -= 1

    async def _run_and_record(
        self,
        mount: Mount,
        slot: Slot,
        session: Session[Any],
        call: ToolCall,
        tool: Tool | None,
        stays: bool,
    ) -> ToolOutcome:
        begun = self._clock.monotonic()
        try:
            ended = await self._run(mount, slot, session, call, tool, begun)
        except BaseException as exc:
            # cancelled: by a shutdown that could not wait. The record says so; the state stays.
            outcome = ToolOutcome.error("The call was cancelled.", "cancelled")
            if is_stray(exc):
                logger.exception("tool %r of %s was cancelled from inside", call.name, mount.name)
                outcome = ToolOutcome.error("The tool failed.", "environment_error")
            ended = _Ended.of(call.ended(self._clock.monotonic() - begun, outcome))
            with anyio.CancelScope(shield=True):  # though it stays: something has cancelled it
                await self._record(mount, slot, ended)
            if is_stray(exc):
                return outcome
            raise
        with shield(self._store.waits and not stays):  # what ran is recorded, whole
            if not await self._record(mount, slot, ended):
                return ToolOutcome.error("The call could not be recorded.", "store_error")
        return ended.outcome

    async def _run(
        self,
        mount: Mount,
        slot: Slot,
        session: Session[Any],
        call: ToolCall,
        tool: Tool | None,
        begun: float,
    ) -> _Ended:
        """Return how a call ended, and the state to keep."""
        allowed = slot.row.allowed_tools
        try:
            try:
                if allowed is not None and call.name not in allowed:
                    raise UnknownTool(f"There is no tool named {call.name!r}.")
                outcome = await mount.call_tool(session, call, tool)
            except ToolError as exc:
                # within the limit of a result: it may repeat the arguments
                outcome = mount.sized(ToolOutcome.error(str(exc), exc.kind))
            duration = self._clock.monotonic() - begun
            return _Ended.of(call.ended(duration, outcome), session.changed_state())
        except CallTimeout as exc:
            masks = tool is not None and tool.options.timeout_masks
            kind = "environment_timeout" if masks else "timeout"
            text = f"The tool took longer than {exc.seconds:g} s and was given up."
            outcome = ToolOutcome.error(text, kind)
        except BaseException as exc:
            if not is_crash(exc):
                raise
            logger.exception("tool %r of %s failed in session %s", call.name, mount.name, slot.id)
            outcome = ToolOutcome.error("The tool failed.", "environment_error")
        return _Ended.of(call.ended(self._clock.monotonic() - begun, outcome))

    async def _record(self, mount: Mount, slot: Slot, ended: _Ended) -> bool:
        kind = ended.outcome.kind
        try:
            await slot.commit(self._store, kind, ended.dumped, ended.state, self._clock.time())
        except StoreError:
            slot.store_failed = True
            self._spoiled.update(slot.token_hashes[:1])
            mount.counts["store_error"] += 1
            logger.exception("a call of session %s could not be recorded", slot.id)
            return False
        # after the commit: what is counted is what the sessions' records have
        mount.counts["calls"] += 1
        if kind != "ok":
            mount.counts[kind] += 1
        return True


class _Ended(NamedTuple):
    """A call that has ended, as it is recorded."""

    outcome: ToolOutcome
    dumped: bytes
    state: bytes | None
    """What to keep of the state; None where it is as it was."""

    @classmethod
    def of(cls, call: ToolCall, state: bytes | None = None) -> _Ended:
        """Return a call as the record can hold it: as it is, or that it is nested too deep.

        An agent can make a tool that repeats its arguments nest deeper than a JSON parser goes.

        Raises: ValueError: an author's call_tool, or a wrapper, has made what is not finite JSON.
        """
        assert call.outcome is not None
        outcome, dumped = call.outcome, call.dump()
        if b"NaN" in dumped or b"Infinity" in dumped:  # a number, or only a word in a text
            finite_json([outcome.content, outcome.structured_content])
        if dumped.count(b"[") + dumped.count(b"{") >= DEPTH:
            try:
                pydantic_core.from_json(dumped)
            except ValueError:
                outcome = ToolOutcome.error("The result is nested too deep.", "limit")
                dumped = call.ended(call.duration, outcome).dump()
        return cls(outcome, dumped, state)


def _refuse_ended(slot: Slot) -> None:
    """Refuse a call where verify or close has begun, or the session has ended.

    Raises: ToolRefused.
    """
    if slot.row.status == "open" and not slot.shut:
        return
    if slot.row.status == "verify_failed":
        raise ToolRefused("The attempt was submitted: its tools are shut.", "session_ended")
    raise ToolRefused("The session has ended.", "session_ended")
