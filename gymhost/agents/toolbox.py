"""The tools of an attempt's MCP servers, under the names that a model calls them by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymhost.agents.base import McpServers
from gymhost.agents.mcp_servers import McpServer, connect, connections
from gymhost.episode import ToolAnswer
from gymhost.models import JSONObject

if TYPE_CHECKING:
    import mcp_types

__all__ = ["McpTool", "Toolbox", "open_toolbox"]

NAME_LENGTH = 64  # OpenAI's limit, and its letters


@dataclass(frozen=True)
class McpTool:
    """One tool of one server."""

    server: McpServer
    tool: mcp_types.Tool

    @property
    def name(self) -> str:
        """The name that trajectories have: `mcp__weather__get_weather`."""
        return f"mcp__{self.server.name}__{self.tool.name}"

    def definition(self, offered_name: str) -> JSONObject:
        """Return it as a tool of a Responses API request."""
        schema = {"properties": {}, **self.tool.input_schema}  # OpenAI wants them named
        return {
            "type": "function",
            "name": offered_name,
            "description": self.tool.description or "",
            "parameters": schema,
            "strict": False,  # the default is true there, and few schemas are made for that
        }


class Toolbox:
    """The tools of all servers."""

    def __init__(self, tools: list[McpTool]) -> None:
        self._tools: dict[str, McpTool] = {}
        """By the name that the model is told."""
        for tool in tools:
            self._tools[_offered_name(tool.name, self._tools)] = tool

    @property
    def definitions(self) -> list[JSONObject]:
        """The tools, as a Responses API request has them."""
        return [tool.definition(offered) for offered, tool in self._tools.items()]

    def has(self, name: str) -> bool:
        """Whether a server has a tool of that name: its own, or with the server's before it."""
        return any(name in (tool.name, tool.tool.name) for tool in self._tools.values())

    def full_name(self, offered: str) -> str:
        """Return the name that trajectories have."""
        return self._tools[offered].name if offered in self._tools else offered

    async def call(self, offered: str, arguments: JSONObject) -> ToolAnswer:
        """Call a tool. What the model did wrong is an answer that says so.

        Raises: AgentFailure: `mcp_error`: the server did not do its part.
        """
        tool = self._tools.get(offered)
        if tool is None:
            return ToolAnswer(f"There is no tool named {offered!r}.", is_error=True)
        return await tool.server.call(tool.tool.name, arguments)


@asynccontextmanager
async def open_toolbox(servers: McpServers) -> AsyncGenerator[Toolbox]:
    """Connect to MCP servers; at the end, also by cancellation, they are disconnected or stopped.

    Raises: AgentFailure: `mcp_error`: one can't be reached, or was lost.
    """
    async with connections() as stack:
        tools: list[McpTool] = []
        for name, config in servers.items():
            server = await connect(stack, name, config)
            tools += [McpTool(server, tool) for tool in server.tools]
        yield Toolbox(tools)


def _offered_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return a name that OpenAI takes and no other tool has: this one, if it can be."""
    offered = re.sub("[^a-zA-Z0-9_-]", "_", name)
    if len(offered) <= NAME_LENGTH and offered not in taken:
        return offered
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]  # the same in every attempt
    return f"{offered[: NAME_LENGTH - 9]}_{digest}"
