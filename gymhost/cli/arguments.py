"""A tool's arguments, made of words by its input schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pydantic_core
import referencing
import referencing.exceptions
import typer
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from gymhost.models import JSONObject, finite_json

__all__ = ["tool_arguments"]


def tool_arguments(tool: str, schema: JSONObject, words: Iterable[str]) -> JSONObject:
    """Return the arguments that words like `city=Paris` mean to a tool.

    What the schema takes as a string is one; all else is read as JSON.

    Raises: typer.BadParameter: a word is none, or the schema does not take what they make.
    """
    properties = schema.get("properties", {})
    arguments: JSONObject = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise _wrong(f"{word!r} is not NAME=VALUE")
        if name in arguments:
            raise _wrong(f"{name!r} is given twice")
        if name not in properties and not schema.get("additionalProperties"):
            raise _wrong(f"{tool} takes no {name!r}. {_takes(schema)}")
        arguments[name] = _value(text, properties.get(name, {}), schema)
    _check(schema, arguments)
    return arguments


def _value(text: str, wanted: JSONObject, schema: JSONObject) -> Any:
    if _problem(text, wanted, schema) is None:
        return text
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
        finite_json(value)  # 1e999 reads as an infinity
    except ValueError:
        return text  # and _check says what is wrong with it
    return value


def _check(schema: JSONObject, arguments: JSONObject) -> None:
    found = _problem(arguments, schema, schema)
    if found is None:
        return
    where = ".".join(str(part) for part in found.absolute_path)
    text = f"{where}: {found.message}" if where else found.message
    raise _wrong(f"{text[:300]}. {_takes(schema)}")


def _problem(value: Any, part: JSONObject, schema: JSONObject) -> ValidationError | None:
    """Return why a part of the schema does not take a value; None where it does."""
    part = {**part, "$defs": schema["$defs"]} if "$defs" in schema else part
    # a registry of its own: the default one fetches what a $ref names
    validator = Draft202012Validator(part, registry=referencing.Registry())
    try:
        best: ValidationError | None = best_match(validator.iter_errors(value))
        return best
    except (re.error, referencing.exceptions.Unresolvable):
        return None  # a pattern of Rust's, which pydantic reads; a schema elsewhere. The host knows


def _takes(schema: JSONObject) -> str:
    required = schema.get("required", [])
    parts = [
        f"{name} ({_type(wanted, schema)}{', required' if name in required else ''})"
        for name, wanted in schema.get("properties", {}).items()
    ]
    return f"It takes: {', '.join(parts) or 'nothing'}."


def _type(wanted: JSONObject, schema: JSONObject) -> str:
    """Name what a property may be, in a word or two."""
    if "$ref" in wanted:
        wanted = schema.get("$defs", {}).get(wanted["$ref"].rpartition("/")[2], {})
    if "enum" in wanted or "const" in wanted:
        return "|".join(json.dumps(each) for each in wanted.get("enum", [wanted.get("const")]))
    several = wanted.get("anyOf") or wanted.get("oneOf")
    if several:
        return "|".join(_type(each, schema) for each in several)
    return str(wanted.get("type", "anything"))


def _wrong(text: str) -> typer.BadParameter:
    return typer.BadParameter(re.sub(r"\s+", " ", text), param_hint="--arg")
