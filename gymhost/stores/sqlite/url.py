"""The URL of a session store in a file: `sqlite:///path`, as SQLAlchemy writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["SqliteUrl", "Synchronous", "parse_url"]

Synchronous = Literal["normal", "full"]
"""When the disk has what was acknowledged: soon (it survives the process), or at once."""

FORM = "sqlite:///relative/path.db or sqlite:////absolute/path.db"


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    """What a URL says."""

    path: Path
    synchronous: Synchronous = "normal"


def parse_url(url: str) -> SqliteUrl:
    """Return what a URL says; a relative path is below the working folder.

    Raises: ValueError: it says something else.
    """
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"), errors="strict")
    if parts.netloc or not parts.path.startswith("/") or not path or "\0" in path:
        raise ValueError(f"{url!r} names no file. Known: {FORM}")
    if parts.fragment or "#" in url:
        raise ValueError(f"{url!r} has a fragment: in a path, write # as %23")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    synchronous = options.pop("synchronous", "normal")
    if options or synchronous not in get_args(Synchronous):
        raise ValueError(
            f"{url!r} has an option that is not known. Known: ?synchronous=normal|full"
        )
    return SqliteUrl(Path(path), cast(Synchronous, synchronous))
