"""Text whose type is not known yet, and which may be secret: from a variable or a `${NAME}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["Text", "names_a_secret", "plain", "secrets_in"]

SECRET = re.compile("key|token|passw|secret|credential", re.IGNORECASE)


class Text(str):
    """Text from a variable, or in which a `${NAME}` was replaced.

    A setting converts it to its own type, which it does not do with text of the file. It is not
    shown: neither by `repr` nor by an error. An option that is named like a secret is one, too.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def names_a_secret(name: object) -> bool:
    """Whether an option of this name is not to be shown."""
    return SECRET.search(str(name)) is not None


def plain(value: Any) -> Any:
    """Return options as their class gets them, with ordinary strings."""
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def secrets_in(value: Any) -> Iterator[str]:
    """Yield the texts in options that are not to be shown."""
    if isinstance(value, Text):
        yield str(value)
    elif isinstance(value, dict):
        for each in value.values():
            yield from secrets_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from secrets_in(each)
