"""The limits of one environment, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one environment may use. Times are seconds, sizes are bytes.

    Raises: ValueError: a limit that is not a positive number.
    """

    open_sessions: int = 10_000
    """Past it, seed answers 503 with Retry-After."""
    calls_in_flight: int = 256
    """Tool calls running or waiting; past it, a tool error."""
    session_queue: int = 16
    """Calls waiting in one session, or running at once in it; past it, a tool error."""
    session_calls: int = 1_000
    """Calls recorded in one session; past it, a tool error."""
    result_bytes: int = MIB
    """One tool result, as JSON."""
    threads: int = 16
    """Threads for plain `def` tools, and as many for hooks; a call waits within its timeout."""
    stuck_threads: int = 4
    """Abandoned threads that still run, before the environment reads as degraded."""
    startup_seconds: float = 30.0
    tool_seconds: float = 60.0
    seed_seconds: float = 60.0
    verify_seconds: float = 300.0
    close_seconds: float = 10.0
    body_bytes: int = 64 * MIB
    """A control-plane body."""
    mcp_body_bytes: int = 4 * MIB
    """An MCP body."""
    idle_seconds: float = 3_600.0
    """A session that was used, and is not any more, expires."""
    unused_seconds: float = 600.0
    """A session that was seeded and never used expires."""
    total_seconds: float = 86_400.0
    """A session expires, used or not."""
    retention_seconds: float = 86_400.0
    """An ended session's record is kept."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"limit {field.name!r} must be a positive number, not {value!r}")
