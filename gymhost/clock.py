"""Where the time comes from: the system, or a clock that a test turns by hand."""

from __future__ import annotations

import time as system
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Seconds, twice: since the epoch for the record, and from anywhere for durations."""

    def time(self) -> float:
        """Return seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class SystemClock:
    """The machine's own time."""

    # the very functions: an episode asks a dozen times
    time = staticmethod(system.time)
    monotonic = staticmethod(system.monotonic)
