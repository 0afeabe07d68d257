"""A tool's arguments, made of words by its input schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pydantic_core
import referencing
import typer
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match

from gymhost.cli.output import printable
from gymhost.models import JSONObject, finite_json

__all__ = ["tool_arguments"]


def tool_arguments(tool: str, schema: JSONObject, words: Iterable[str]) -> JSONObject:
    """Return the arguments that words like `city=Paris` mean to a tool.

    What the schema takes as a string is one; all else is read as JSON.

    Raises: typer.BadParameter: a word is none, or the schema does not take what they make.
    """
    properties = _object(schema.get("properties"))
    arguments: JSONObject = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise _wrong(f"{word!r} is not NAME=VALUE")
        if name in arguments:
            raise _wrong(f"{name!r} is given twice")
        if name not in properties and not schema.get("additionalProperties"):
            raise _wrong(f"{tool} takes no {name!r}. {_takes(schema)}")
        arguments[name] = _value(text, properties.get(name, True), schema)
    _check(schema, arguments)
    return arguments


def _value(text: str, wanted: Any, schema: JSONObject) -> Any:
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


def _unchecked(*_: Any) -> Iterator[ValidationError]:
    return iter(())


def _additional(
    validator: Any, additional: Any, instance: Any, schema: JSONObject
) -> Iterator[ValidationError]:
    if "patternProperties" not in schema:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](
            validator, additional, instance, schema
        )


# No pattern is looked at: some take for ever, in which Python reads no Ctrl-C. The host knows.
_Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "additionalProperties": _additional,
        "pattern": _unchecked,
        "patternProperties": _unchecked,
        "unevaluatedProperties": _unchecked,
    },
)


def _problem(value: Any, part: Any, schema: JSONObject) -> ValidationError | None:
    """Return why a part of the schema does not take a value; None where it does."""
    try:
        if isinstance(part, dict) and "$defs" in schema:
            part = {**part, "$defs": schema["$defs"]}
        # a registry of its own: the default one fetches what a $ref names
        validator = _Validator(_one_dialect(part), registry=referencing.Registry())
        best: ValidationError | None = best_match(validator.iter_errors(value))
        return best
    except Exception:  # noqa: BLE001 - somebody's odd schema, or one elsewhere. The host knows
        return None


def _one_dialect(part: Any) -> Any:
    """Leave each `$schema` out, which would choose a validator that does look at patterns."""
    if isinstance(part, dict):
        return {
            key: _one_dialect(value)
            for key, value in part.items()
            if key != "$schema" or not isinstance(value, str)
        }
    return [_one_dialect(each) for each in part] if isinstance(part, list) else part


def _takes(schema: JSONObject) -> str:
    required = _list(schema.get("required"))
    defs = _object(schema.get("$defs"))
    parts = [
        f"{name} ({_type(wanted, defs)}{', required' if name in required else ''})"
        for name, wanted in _object(schema.get("properties")).items()
    ]
    return f"It takes: {', '.join(parts) or 'nothing'}."


def _type(wanted: Any, defs: JSONObject, depth: int = 3) -> str:
    """Name what a property may be, in a word or two."""
    wanted = _object(wanted)
    if "$ref" in wanted:
        wanted = _object(defs.get(str(wanted["$ref"]).rpartition("/")[2]))
    if "enum" in wanted or "const" in wanted:
        values = _list(wanted.get("enum", [wanted.get("const")]))
        return "|".join(json.dumps(each) for each in values)
    several = _list(wanted.get("anyOf") or wanted.get("oneOf"))
    if several and depth:
        return "|".join(_type(each, defs, depth - 1) for each in several)
    return str(wanted.get("type", "anything"))


def _object(value: Any) -> JSONObject:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _wrong(text: str) -> typer.BadParameter:
    return typer.BadParameter(printable(re.sub(r"\s+", " ", text)), param_hint="--arg")
