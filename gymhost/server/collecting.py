"""Garbage collection, as a process needs it that keeps thousands of sessions."""

from __future__ import annotations

import gc

__all__ = ["collect_seldom"]

# Python's own, 700, 10 and 10, are for small programs. A third of an episode's CPU was spent on
# looking through what lives long: imports, and the records of sessions. What an episode leaves is
# freed by counting references; circles are the exception, and 50,000 objects are some ten MB.
THRESHOLDS = (50_000, 20, 20)


def collect_seldom() -> None:
    """Leave what has been loaded out of all collections to come, and collect seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
