"""Marked methods as tools, without a host around them."""

from collections.abc import Mapping
from typing import Any

import pydantic_core
from pydantic import BaseModel

from gymhost.session import NoState, Session
from gymhost.threads import Threads
from gymhost.tools import MethodTool, method_tools


def tools_of(instance: object, threads: Threads | None = None) -> dict[str, MethodTool]:
    """The tools of an instance, by name."""
    return {each.name: each for each in method_tools(instance, threads or Threads(4))}


def a_session(state: BaseModel | None = None, **options: Any) -> Session[Any]:
    """A session as a tool receives it."""
    state = state or NoState()
    dumped = state.model_dump_json().encode()
    return Session("s-1", "env", b"{}", model=type(state), state=dumped, **options)


async def run(tool: MethodTool, arguments: Mapping[str, Any], **options: Any) -> Any:
    """Run a tool with arguments as they come off the wire."""
    parsed = pydantic_core.from_json(pydantic_core.to_json(arguments))
    return await tool.run(a_session(**options), parsed)
