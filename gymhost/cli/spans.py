"""Times as people type and read them: `2h` ago, or a date; by the clock on the wall."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

__all__ = ["local", "moment"]

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SPAN = re.compile(r"(?:[0-9]{1,9}[smhdw])+")


def moment(text: str | None, option: str) -> datetime | None:
    """Return what a time option means: so long ago (`90m`, `1d12h`), or a time of ISO 8601.

    One without an offset is local time, as `local` prints it.

    Raises: typer.BadParameter.
    """
    if text is None:
        return None
    try:
        if SPAN.fullmatch(text):
            return datetime.now(UTC) - _span(text)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as exc:  # a day that is none, or before the year 1
        raise typer.BadParameter(
            f"{text!r} is no time: take 90m, 2h or 7d for so long ago, or 2026-01-31T12:00:00Z",
            param_hint=option,
        ) from exc


def _span(text: str) -> timedelta:
    parts = re.findall(r"([0-9]+)([smhdw])", text)
    return sum((timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts), timedelta())


def local(when: datetime | None) -> str:
    """Return a time for a person, `-` for none."""
    if when is None:
        return "-"
    try:
        return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError):  # the end of the year 9999, which is over here
        return when.isoformat()
