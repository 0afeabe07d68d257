"""Where sessions are kept: the `SessionStore` protocol, and the stores behind a URL."""

from __future__ import annotations

from gymhost.stores.base import (
    ENDED,
    Found,
    Holding,
    Lease,
    NewSession,
    Page,
    SessionRow,
    SessionStore,
    SessionSummary,
    Status,
    Verdict,
)
from gymhost.stores.memory import MemoryStore

__all__ = [
    "ENDED",
    "Found",
    "Holding",
    "Lease",
    "MemoryStore",
    "NewSession",
    "Page",
    "SessionRow",
    "SessionStore",
    "SessionSummary",
    "Status",
    "Verdict",
    "open_store",
]


def open_store(url: str) -> SessionStore:
    """Return the store at a URL: `memory://`, or `sqlite:///path`. Nothing is opened yet.

    Raises: ValueError: a URL of no known store.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "memory" and not rest:
        return MemoryStore()
    if separator and scheme == "sqlite":
        # only here: SQLite takes a MB
        from gymhost.stores.sqlite import SqliteStore, parse_url

        return SqliteStore(parse_url(url))
    raise ValueError(f"{url!r} is not a session store. Known: memory://, sqlite:///path")
