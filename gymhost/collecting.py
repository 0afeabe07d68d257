"""Garbage collection, as a process needs it that imports much and keeps thousands of sessions."""

from __future__ import annotations

import gc

__all__ = ["collect_seldom", "leave_imports_out", "leave_loaded_out"]

# Python's own, 700, 10 and 10, are for small programs. A third of an episode's CPU was spent on
# looking through what lives long: imports, and the records of sessions; and a tenth of a start on
# looking through what was just imported. What an episode leaves is freed by counting references;
# circles are the exception, and 50,000 objects are some ten MB.
THRESHOLDS = (50_000, 20, 20)


def collect_seldom() -> None:
    """Collect seldom from now on."""
    gc.set_threshold(*THRESHOLDS)


def leave_imports_out() -> None:
    """Leave what there is out of all collections to come, before anything of others is loaded.

    It is not looked through for garbage: that takes 0.1 s, and among our own imports finds nothing.
    """
    gc.freeze()


def leave_loaded_out() -> None:
    """Collect what is garbage now, and leave the rest out of all collections to come.

    What others have loaded may have left circles that hold much.
    """
    gc.collect()
    gc.freeze()
