"""Inject delay and errors around tool calls, for robustness training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import anyio

from gym_ext_tool_latency.faults import DEFAULT_TEXT, Faults, read_mapping
from gymhost import Session, ToolCall, ToolError, ToolOutcome, Wrapper, hookimpl

__all__ = ["InjectedError", "ToolLatency"]

logger = logging.getLogger("gym_ext_tool_latency")


class InjectedError(ToolError):
    """To the agent a tool's error as any other; the record tells it from the tool's own."""

    kind = "injected_error"


class ToolLatency:
    """Lets tool calls wait, and fail instead of running. By default, it does nothing."""

    def __init__(
        self,
        delay_seconds: float | Sequence[float] | Mapping[str, float] = 0,
        error_rate: float = 0,
        error_text: str | Sequence[str] = DEFAULT_TEXT,
        environments: Mapping[str, Mapping[str, Any]] | None = None,
        random_seed: int = 0,
    ) -> None:
        """The first three are for all tools. `environments` has other values of them for single
        environments, and in each, under `tools`, for single tools.

        Raises: ValueError: an option that is wrong.
        """
        self._everywhere = Faults().with_options(
            {"delay_seconds": delay_seconds, "error_rate": error_rate, "error_text": error_text}
        )
        self._in_environment: dict[str, Faults] = {}
        self._in_tool: dict[tuple[str, str], Faults] = {}
        for name, options in read_mapping(environments or {}, "environments").items():
            self._read_environment(name, options)
        self._random_seed = random_seed
        self._not_mounted = set(self._in_environment)

    def _read_environment(self, name: str, options: object) -> None:
        where = f"environments.{name}"
        own_options = dict(read_mapping(options, where))
        tools = read_mapping(own_options.pop("tools", {}), f"{where}.tools")
        own = self._in_environment[name] = self._everywhere.with_options(own_options, where)
        for tool, tool_options in tools.items():
            self._in_tool[name, tool] = own.with_options(tool_options, f"{where}.tools.{tool}")

    @hookimpl(wrapper=True)
    def startup(self, environment: str) -> Wrapper[None]:
        self._not_mounted.discard(environment)
        return (yield)

    @hookimpl(wrapper=True)
    def call_tool(
        self, environment: str, session: Session[Any], call: ToolCall
    ) -> Wrapper[ToolOutcome]:
        if self._not_mounted:  # said once, when all have started
            names = ", ".join(sorted(self._not_mounted))
            logger.warning("no environment is named %s: their faults are never injected", names)
            self._not_mounted.clear()
        faults = self._faults(environment, call.name)
        if faults.none:
            return (yield)
        dice = self._dice(session, call)
        failure = faults.draw_error(dice)
        yield anyio.sleep(faults.delay_seconds.draw(dice))
        if failure is not None:
            raise InjectedError(failure)
        return (yield)

    def _faults(self, environment: str, tool: str) -> Faults:
        own = self._in_environment.get(environment, self._everywhere)
        return self._in_tool.get((environment, tool), own)

    def _dice(self, session: Session[Any], call: ToolCall) -> Random:
        """Return what depends on this call alone: not on what other sessions did before it."""
        task_seed = session.task.verifier_metadata.get("random_seed")
        attempt = session.id if task_seed is None else task_seed
        # with the arguments: overlapping calls have the same number, and must not fail together
        arguments = json.dumps(call.arguments, sort_keys=True)
        place = (session.environment, attempt, session.call_count, call.name, arguments)
        key = (self._random_seed, *place)
        return Random(repr(key))  # of a string: the same in every process and Python
