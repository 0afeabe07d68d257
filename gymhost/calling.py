"""How a tool call runs: in its turn, on a private state, and into the record."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio

from gymhost.clock import Clock
from gymhost.ending import Ending, expires_at
from gymhost.errors import (
    CallTimeout,
    RequestError,
    StoreError,
    ToolError,
    ToolRefused,
    UnknownTool,
    is_crash,
)
from gymhost.models import JSONObject, ToolCall, ToolOutcome
from gymhost.mount import Mount
from gymhost.registry import Registry, mint_session_id
from gymhost.session import Session
from gymhost.slots import Slot
from gymhost.stores import SessionStore
from gymhost.tools import Tool

__all__ = ["Calling"]

logger = logging.getLogger("gymhost.calls")


class Calling:
    """Runs tool calls."""

    def __init__(
        self, store: SessionStore, registry: Registry, clock: Clock, ending: Ending
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._ending = ending

    async def call_tool(
        self,
        mount: Mount,
        token: str | None,
        tool_name: str,
        arguments: JSONObject,
        gone: Callable[[], Awaitable[Any]] | None,
    ) -> ToolOutcome:
        """Run one tool call of an agent. A failure is an outcome, not an error."""
        try:
            return await self._call_tool(mount, token, tool_name, arguments, gone)
        except ToolRefused as exc:
            mount.counts[exc.kind] += 1
            return ToolOutcome.error(str(exc), exc.kind)
        except RequestError as exc:
            logger.exception("a tool call of %s could not begin", mount.name)
            return ToolOutcome.error("The tool call could not begin. Try again.", exc.failure_kind)

    async def _call_tool(
        self,
        mount: Mount,
        token: str | None,
        tool_name: str,
        arguments: JSONObject,
        gone: Callable[[], Awaitable[Any]] | None,
    ) -> ToolOutcome:
        slot = await self._registry.by_token(mount.name, token)
        if mount.calls_in_flight >= mount.limits.calls_in_flight:
            raise ToolRefused("The server is busy. Try again in a moment.", "over_capacity")
        tool = mount.tools.get(tool_name)
        concurrent = tool is not None and tool.options.concurrent
        slot.users += 1
        mount.calls_in_flight += 1
        try:
            await self._refuse_ended(mount, slot)
            if concurrent:
                slot.turns.begin_concurrent()
                try:
                    return await self._run_call(mount, slot, tool, tool_name, arguments)
                finally:
                    slot.turns.end_concurrent()
            if not await slot.turns.take(mount.limits.session_queue, gone):
                raise ToolRefused("The caller went away before the call began.", "abandoned")
            try:
                await self._refuse_ended(mount, slot)  # it may have ended meanwhile
                return await self._run_call(mount, slot, tool, tool_name, arguments)
            finally:
                slot.turns.give_back()
        finally:
            slot.users -= 1
            mount.calls_in_flight -= 1

    async def _refuse_ended(self, mount: Mount, slot: Slot) -> None:
        if slot.row.status == "open" and not slot.shut:
            if expires_at(slot.row, mount.limits) > self._clock.time() or slot.users > 1:
                return
            slot.shut = True
            await self._ending.end(mount, slot, "expired", "expired")
        if slot.row.status == "verify_failed":
            raise ToolRefused("The attempt was submitted: its tools are shut.", "session_ended")
        raise ToolRefused("The session has ended.", "session_ended")

    async def _run_call(
        self, mount: Mount, slot: Slot, tool: Tool | None, tool_name: str, arguments: JSONObject
    ) -> ToolOutcome:
        if len(slot.calls) >= mount.limits.session_calls:
            raise ToolRefused(
                f"The session has made {len(slot.calls)} calls, the most it may.", "limit"
            )
        read_only = tool is not None and tool.options.concurrent
        session = slot.session(mount.instance.state_type, read_only=read_only)
        call = ToolCall(mint_session_id(), tool_name, arguments, self._clock.time())
        begun = self._clock.monotonic()
        try:
            outcome, state = await self._outcome(mount, slot, session, call, tool)
        except BaseException:
            # cancelled: by a shutdown that could not wait. The record says so; the state stays.
            outcome = ToolOutcome.error("The call was cancelled.", "cancelled")
            call = replace(call, duration=self._clock.monotonic() - begun, outcome=outcome)
            with anyio.CancelScope(shield=True):
                await self._record(mount, slot, call, None)
            raise
        call = replace(call, duration=self._clock.monotonic() - begun, outcome=outcome)
        # shielded: what ran is recorded, whole
        with anyio.CancelScope(shield=True):
            if not await self._record(mount, slot, call, state):
                return ToolOutcome.error("The call could not be recorded.", "store_error")
        return outcome

    async def _outcome(
        self, mount: Mount, slot: Slot, session: Session[Any], call: ToolCall, tool: Tool | None
    ) -> tuple[ToolOutcome, bytes | None]:
        """Return how a call ended, and the state to keep."""
        allowed = slot.row.allowed_tools
        try:
            if allowed is not None and call.name not in allowed:
                raise UnknownTool(f"There is no tool named {call.name!r}.")
            try:
                outcome = await mount.call_tool(session, call, tool)
            except ToolError as exc:
                outcome = ToolOutcome.error(str(exc), exc.kind)
            return outcome, session.changed_state()
        except ToolError as exc:
            return ToolOutcome.error(str(exc), exc.kind), None
        except CallTimeout as exc:
            masks = tool is not None and tool.options.timeout_masks
            kind = "environment_timeout" if masks else "timeout"
            text = f"The tool took longer than {exc.seconds:g} s and was given up."
            return ToolOutcome.error(text, kind), None
        except BaseException as exc:
            if not is_crash(exc):
                raise
            logger.exception("tool %r of %s failed in session %s", call.name, mount.name, slot.id)
            return ToolOutcome.error("The tool failed.", "environment_error"), None

    async def _record(self, mount: Mount, slot: Slot, call: ToolCall, state: bytes | None) -> bool:
        assert call.outcome is not None
        mount.counts["calls"] += 1
        if call.outcome.kind != "ok":
            mount.counts[call.outcome.kind] += 1
        try:
            await slot.commit(self._store, call, state, self._clock.time())
        except StoreError:
            slot.store_failed = True
            mount.counts["store_error"] += 1
            logger.exception("a call of session %s could not be recorded", slot.id)
            return False
        return True
