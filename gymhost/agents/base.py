"""The agent protocol: attempt one task with some MCP servers, and note what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gymhost.errors import GymhostError
from gymhost.models import JSONObject, Task

__all__ = ["Agent", "AgentFailure", "AgentRun", "McpServers", "Usage"]

McpServers = Mapping[str, JSONObject]
"""An `mcp_config`, by server name: `{"type": "http", "url": ..., "headers": {...}}` or
`{"command": ..., "args": [...], "env": {...}}`, as the field's `mcpServers` files have them."""


@dataclass(slots=True)
class Usage:
    """Tokens, counted once for each model call."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    """Of `input_tokens`, those that were read from a cache."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class AgentRun:
    """What an agent has done so far. It is filled as the run goes, and is kept if that fails."""

    output: list[JSONObject] = field(default_factory=list[JSONObject])
    """The trajectory: Responses API items."""
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    """Model calls."""
    model: str | None = None
    stop_reason: str | None = None
    cost_usd: float | None = None
    versions: dict[str, str] = field(default_factory=dict[str, str])
    """Of what ran, as `{"claude-code": "2.1.0"}`."""
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """What else is worth keeping: finite JSON."""


class AgentFailure(GymhostError):
    """The attempt came to nothing that can be scored. It is a failure row, never a reward.

    `failure_class` says what failed: `invalid_task`, `agent_error`, `agent_exit`, `agent_protocol`,
    `model_error`, `model_timeout`, `model_rate_limited`, `mcp_error`, ... A `terminal` one would
    fail again the same way: it is not retried.
    """

    def __init__(
        self, message: str, failure_class: str = "agent_error", *, terminal: bool = False
    ) -> None:
        super().__init__(message)
        self.failure_class = failure_class
        self.terminal = terminal


class Agent(Protocol):
    """One configured agent. It attempts many tasks, several at a time.

    One that is an async context manager is entered before its first attempt, in the runner's own
    event loop, and left after its last.
    """

    async def run(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
        """Attempt a task, and note in `run` what is done, as it is done.

        The runner's time limit and Ctrl-C are a cancellation: it ends whatever was started, and
        `run` has what was done by then. Works on asyncio and on trio.

        Raises: AgentFailure: there is nothing to score.
        """
        ...
