"""Times as the wire has them: RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["parse_rfc3339", "rfc3339"]

# A space for the plus of an offset: that is what a URL's query makes of one that is not escaped.
RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+\- ]\d\d:\d\d)", re.ASCII
)


def rfc3339(seconds: float) -> str:
    """Return seconds since the epoch as a time, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def parse_rfc3339(text: str) -> float:
    """Return a time as seconds since the epoch.

    Raises: ValueError: it is none, or says no offset from UTC.
    """
    match = RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time of RFC 3339, as 2026-01-31T12:00:00Z is")
    day, time, fraction, offset = match.groups(default="")
    offset = "+00:00" if offset in "Zz" else offset.replace(" ", "+")
    return datetime.fromisoformat(f"{day}T{time}{fraction[:7]}{offset}").timestamp()
