"""Agents by name: those of gymhost, and those that plugins register."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

from gymhost.agents.base import Agent
from gymhost.errors import GymhostError

__all__ = ["BUILT_IN", "AgentFactory", "UnknownAgent", "find_agent"]

AgentFactory = Callable[..., Agent] | str
"""A class or function that takes an agent's options, or where it is: `module:attribute`."""

# where each is: a harness is imported when it is used
BUILT_IN: Mapping[str, AgentFactory] = {
    "claude-code": "gymhost.agents.claude_code:ClaudeCode",
    "responses": "gymhost.agents.responses:ResponsesAgent",
    "scripted": "gymhost.agents.scripted:Scripted",
}


class UnknownAgent(GymhostError):
    """No agent has that name, or what has it can't be imported."""


def find_agent(
    kind: str, registered: Mapping[str, AgentFactory] | None = None
) -> Callable[..., Agent]:
    """Return what makes agents of a kind. A name of gymhost's own can't be registered.

    Raises: UnknownAgent.
    """
    known: dict[str, AgentFactory] = {**(registered or {}), **BUILT_IN}
    if kind not in known:
        raise UnknownAgent(f"no agent is named {kind!r}. Known: {', '.join(sorted(known))}")
    factory = known[kind]
    return _imported(kind, factory) if isinstance(factory, str) else factory


def _imported(kind: str, where: str) -> Callable[..., Agent]:
    module, _, attribute = where.partition(":")
    try:
        found: Any = import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as exc:
        raise UnknownAgent(f"the agent {kind!r} ({where}) can't be imported: {exc}") from exc
    if not callable(found):
        raise UnknownAgent(f"the agent {kind!r} ({where}) is nothing that makes one")
    return cast(Callable[..., Agent], found)
