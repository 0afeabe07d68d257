"""Text whose type is not known yet, and which may be secret: from a variable or a `${NAME}`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from gymhost.redaction import names_a_secret

__all__ = ["Text", "plain", "secrets_in"]


class Text(str):
    """Text from a variable, or in which a `${NAME}` was replaced.

    A setting converts it to its own type, which it does not do with text of the file. It is not
    shown: neither by `repr` nor by an error. An option that is named like a secret is one, too.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def plain(value: Any) -> Any:
    """Return options as their class gets them, with ordinary strings."""
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def secrets_in(value: Any, *, named: bool = False) -> Iterator[str]:
    """Yield what is not to be shown in options, as it would be written.

    That is each `Text`, and each text, number and date below a name of a secret. `named`: the
    value is below one.
    """
    if isinstance(value, dict):
        for name, each in value.items():
            yield from secrets_in(each, named=named or names_a_secret(name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from secrets_in(each, named=named)
    elif isinstance(value, Text) or (named and isinstance(value, str)):
        yield str(value)
    elif named and isinstance(value, bytes):
        yield repr(value)[2:-1]
    elif named and isinstance(value, int | float | date) and not isinstance(value, bool):
        yield str(value)
        yield repr(value)
