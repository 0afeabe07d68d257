"""What is wrong with a configuration, in one clear line each, without the secrets in it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from datetime import date
from typing import Any

from gymhost.config.text import Text
from gymhost.errors import GymhostError

__all__ = ["ConfigError", "Place", "dotted", "explain", "unknown_key"]

Place = tuple[str | int, ...]
"""Where in the file a value is: `("environments", "weather", "limits", "tool_seconds")`."""

MUST_BE = {
    "bool_type": "true or false",
    "dict_type": "a mapping (`name: value`)",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a mapping (`name: value`)",
    "string_type": "text",
    "tuple_type": "a list",
}
RANGES = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than_equal": ("le", "{} or less"),
}
SHOWN = {"bool_type", "float_type", "int_type", "literal_error", *RANGES}
"""The kinds of error that show a text: a secret is no number and no choice of a few words."""


class ConfigError(GymhostError):
    """The configuration is wrong: nothing is started. `problems` has one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(_one_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


def dotted(place: Place) -> str:
    """Return a place as text."""
    return ".".join(str(part) for part in place)


def explain(error: Any, written: str | None, *, secret: bool) -> str:
    """Say what is wrong, from one of pydantic's errors.

    `written` is how the file has the value, where YAML read it as something else. A `secret`
    value is not shown.
    """
    kind, context = error["type"], error.get("ctx", {})
    hidden = secret or isinstance(error["input"], Text)
    not_this = f", not {_describe(error['input'], written, shown=kind in SHOWN)}"
    given = " (its value is not shown)" if hidden else not_this
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "finite_number":
        return f"must be a finite number{given}"
    if kind == "literal_error":
        return f"must be {context['expected']}{given}"
    if kind in RANGES:
        key, words = RANGES[kind]
        return f"must be {words.format(context[key])}{given}"
    if kind in MUST_BE:
        return f"must be {MUST_BE[kind]}{given}{_hint(kind, error['input'])}"
    return str(error["msg"])


def unknown_key(key: str, known: Collection[str]) -> str:
    """Say that a key is unknown, and which one was perhaps meant."""
    close = difflib.get_close_matches(key.lower(), known, 1)
    if close:
        return f"unknown key: did you mean {close[0]!r}?"
    return f"unknown key. Known here: {', '.join(sorted(known))}"


def _describe(value: Any, written: str | None, *, shown: bool) -> str:
    """Say what a value is, as the file has it."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {value!r}" if shown else "text"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if written is None:
        return f"{value!r}"
    if isinstance(value, bool):
        read = "true" if value else "false"
        return written if written == read else f"{written}, which YAML reads as {read}"
    if isinstance(value, date):
        return f"{written}, which YAML reads as a date"
    if isinstance(value, int | float):
        return written if written == str(value) else f"{written}, which YAML reads as {value}"
    return f"{written}, which YAML reads as {type(value).__name__}"


def _hint(kind: str, value: Any) -> str:
    if kind == "string_type" and not isinstance(value, dict | list | None):
        return ": put it in quotes"
    if kind in {"float_type", "int_type"} and type(value) is str:
        try:
            number = float(value)
        except ValueError:
            return ""
        if number.is_integer():
            return f": write {int(number)}"
        return ": write it without quotes" if kind == "float_type" else ""
    return ""


def _one_line(problem: str) -> str:
    """Make a problem one line: names of files and keys have any character."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in problem
    )
