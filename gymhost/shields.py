"""A shield for what must not be cut short, where anybody could."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import anyio

__all__ = ["shield"]

_NOTHING = nullcontext()


def shield(needed: bool) -> AbstractContextManager[object]:
    """Return a context that is not cancelled; where that is not needed, one that costs nothing."""
    return anyio.CancelScope(shield=True) if needed else _NOTHING
