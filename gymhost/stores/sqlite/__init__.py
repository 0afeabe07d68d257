"""Sessions in a file, with SQLite: they outlive the process."""

from __future__ import annotations

from gymhost.stores.sqlite.store import SqliteStore
from gymhost.stores.sqlite.url import SqliteUrl, parse_url

__all__ = ["SqliteStore", "SqliteUrl", "parse_url"]
