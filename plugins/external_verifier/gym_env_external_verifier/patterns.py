"""What an argument must be: JSON that it equals, or a matcher such as `{"$contains": "Tokyo"}`."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import PydanticCustomError

__all__ = ["check_pattern", "invalid", "matches"]

MATCHERS = ("$any_of", "$contains", "$equals")
DEPTH = 32


def invalid(reason: str, path: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """Return a validation error; `path` goes on from the field that is being validated."""
    # in the context, for a reason may hold braces of a user's, which would be filled in
    return PydanticCustomError("task", "{reason}", {"reason": reason, "path": path})


def check_pattern(pattern: Any, path: tuple[str | int, ...] = ()) -> None:
    """Refuse what is no pattern.

    Raises: PydanticCustomError: see `invalid`.
    """
    if len(path) > DEPTH:
        raise invalid(f"nested deeper than {DEPTH}", path[:4])
    if isinstance(pattern, dict):
        if any(isinstance(key, str) and key.startswith("$") for key in pattern):
            _check_matcher(pattern, path)
            return
        for key, inner in pattern.items():
            if not isinstance(key, str):
                raise invalid("a key that is not a string", path)
            check_pattern(inner, (*path, key))
    elif isinstance(pattern, list):
        for index, inner in enumerate(pattern):
            check_pattern(inner, (*path, index))
    else:
        _check_scalar(pattern, path)


def _check_matcher(matcher: dict[str, Any], path: tuple[str | int, ...]) -> None:
    kinds = [key for key in matcher if key != "$ignore_case"]
    for kind in kinds:
        if kind not in MATCHERS:
            raise invalid(
                f"not a matcher: there are {', '.join(MATCHERS)}, and beside one of them "
                "$ignore_case; an argument that has such a key itself is matched by $equals",
                (*path, kind),
            )
    if len(kinds) != 1:
        raise invalid(f"one of {', '.join(MATCHERS)} is needed, and only one", path)
    if not isinstance(matcher.get("$ignore_case", False), bool):
        raise invalid("true or false is needed", (*path, "$ignore_case"))
    (kind,) = kinds
    operand = matcher[kind]
    path = (*path, kind)
    if kind == "$any_of" and not isinstance(operand, list):
        raise invalid("a list is needed", path)
    if kind != "$equals" and operand in ([], ""):
        raise invalid("empty", path)
    if kind == "$contains" and isinstance(operand, list) and "" in operand:
        raise invalid("empty: it is in every text", (*path, operand.index("")))
    if kind == "$equals":
        _check_json(operand, path)
    else:
        check_pattern(operand, path)


def _check_json(value: Any, path: tuple[str | int, ...]) -> None:
    """Refuse what is no JSON; here, keys with a `$` are keys like any other."""
    if len(path) > DEPTH:
        raise invalid(f"nested deeper than {DEPTH}", path[:4])
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_json(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_json(inner, (*path, index))
    else:
        _check_scalar(value, path)


def _check_scalar(value: Any, path: tuple[str | int, ...]) -> None:
    if not (value is None or isinstance(value, bool | int | float | str)):
        raise invalid(f"not JSON: {type(value).__name__}", path)
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid("not a finite number", path)


def matches(pattern: Any, value: Any, ignore_case: bool = False) -> bool:
    """Whether a value fits a checked pattern.

    An object may have more keys than the pattern; a list has just its items, in its order.
    """
    if isinstance(pattern, dict):
        for kind in MATCHERS:
            if kind in pattern:
                ignore_case = ignore_case or pattern.get("$ignore_case", False)
                return _MATCH[kind](pattern[kind], value, ignore_case)
        return isinstance(value, dict) and all(
            key in value and matches(inner, value[key], ignore_case)
            for key, inner in pattern.items()
        )
    if isinstance(pattern, list):
        return (
            isinstance(value, list)
            and len(pattern) == len(value)
            and all(map(matches, pattern, value, [ignore_case] * len(pattern)))
        )
    return _equal_scalars(pattern, value, ignore_case)


def _any_of(options: list[Any], value: Any, ignore_case: bool) -> bool:
    return any(matches(option, value, ignore_case) for option in options)


def _contains(operand: Any, value: Any, ignore_case: bool) -> bool:
    parts = operand if isinstance(operand, list) else [operand]
    if isinstance(value, str):
        text = value.casefold() if ignore_case else value
        return all(
            isinstance(part, str) and (part.casefold() if ignore_case else part) in text
            for part in parts
        )
    return isinstance(value, list) and all(
        any(matches(part, item, ignore_case) for item in value) for part in parts
    )


def _equals(expected: Any, value: Any, ignore_case: bool) -> bool:
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and expected.keys() == value.keys()
            and all(_equals(inner, value[key], ignore_case) for key, inner in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(value, list)
            and len(expected) == len(value)
            and all(map(_equals, expected, value, [ignore_case] * len(expected)))
        )
    return _equal_scalars(expected, value, ignore_case)


_MATCH = {"$any_of": _any_of, "$contains": _contains, "$equals": _equals}


def _equal_scalars(expected: Any, value: Any, ignore_case: bool) -> bool:
    if isinstance(expected, str) and isinstance(value, str):
        return expected == value or (ignore_case and expected.casefold() == value.casefold())
    if isinstance(expected, bool) or isinstance(value, bool):
        return expected is value  # for Python, True == 1
    if isinstance(expected, int | float) and isinstance(value, int | float):
        return expected == value
    return expected is None and value is None
