"""A request's query, strictly: a parameter that is misspelt must not widen what it asks for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import get_args

from starlette.datastructures import QueryParams

from gymhost.errors import InvalidField
from gymhost.stores import Status
from gymhost.times import parse_rfc3339

__all__ = ["Query"]

STATUSES: dict[str, Status] = {status: status for status in get_args(Status)}


class Query:
    """The parameters after the `?`."""

    def __init__(self, query_string: bytes, *known: str) -> None:
        """Take the `known` ones.

        Raises: InvalidField: there is another, or one twice.
        """
        self._values: dict[str, str] = {}
        for name, value in QueryParams(query_string).multi_items():
            if name not in known:
                raise InvalidField(f"{name!r} is no parameter here. Known: {', '.join(known)}.")
            if name in self._values:
                raise InvalidField(f"{name!r} is given twice.")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Return a parameter as it is, None where it is absent."""
        return self._values.get(name)

    def status(self, name: str) -> Status | None:
        """Return a session's status.

        Raises: InvalidField.
        """
        value = self._values.get(name)
        if value is None:
            return None
        if value not in STATUSES:
            raise InvalidField(f"{name!r} must be one of {', '.join(STATUSES)}, not {value!r}.")
        return STATUSES[value]

    def time(self, name: str) -> float | None:
        """Return a time of RFC 3339 as seconds since the epoch.

        Raises: InvalidField.
        """
        value = self._values.get(name)
        try:
            return None if value is None else parse_rfc3339(value)
        except ValueError as exc:
            raise InvalidField(
                f"{name!r} must be a time of RFC 3339, as 2026-01-31T12:00:00Z is, not {value!r}."
            ) from exc

    def whole(self, name: str, *, default: int, most: int) -> int:
        """Return a whole number from 1 on.

        Raises: InvalidField.
        """
        value = self._values.get(name)
        if value is None:
            return default
        digits = value.isascii() and value.isdigit() and len(value) <= len(str(most))
        if not digits or not 1 <= int(value) <= most:
            raise InvalidField(f"{name!r} must be a whole number from 1 to {most}, not {value!r}.")
        return int(value)

    @contextmanager
    def cursor_checked(self) -> Generator[None]:
        """Say whose fault it is where a store does not know a cursor."""
        try:
            yield
        except ValueError as exc:
            value = self._values.get("cursor")
            raise InvalidField(
                f"'cursor' must be what a page has answered, not {value!r}."
            ) from exc
