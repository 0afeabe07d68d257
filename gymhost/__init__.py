"""One process that hosts many reinforcement-learning environments for language-model agents."""

from __future__ import annotations

from gymhost.aggregation import AggregateMetrics
from gymhost.config import EnvironmentConfig
from gymhost.environment import Environment
from gymhost.errors import CallTimeout, InvalidTask, ToolError
from gymhost.hookspecs import Wrapper, hookimpl
from gymhost.limits import Limits
from gymhost.models import Reference, Task, ToolCall, ToolOutcome, VerifyResult
from gymhost.session import Session
from gymhost.tools import tool
from gymhost.trajectory import Trajectory

__version__ = "0.1.0"

__all__ = [
    "AggregateMetrics",
    "CallTimeout",
    "Environment",
    "EnvironmentConfig",
    "InvalidTask",
    "Limits",
    "Reference",
    "Session",
    "Task",
    "ToolCall",
    "ToolError",
    "ToolOutcome",
    "Trajectory",
    "VerifyResult",
    "Wrapper",
    "hookimpl",
    "tool",
]
