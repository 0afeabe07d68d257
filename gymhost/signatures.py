"""What a tool's signature says: its input schema, what is injected, and how a call is bound."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin
from weakref import WeakKeyDictionary

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, SchemaError

from gymhost.errors import InvalidArguments, ToolDefinitionError
from gymhost.models import JSONObject, finite_json
from gymhost.session import Session

__all__ = [
    "Plan",
    "check_parameter",
    "explain",
    "injected",
    "is_async",
    "plan_for",
    "refuse_non_finite",
]


# JSON has no NaN, and pydantic reads one in "nan", an infinity in 1 with 400 zeros. A tool that
# repeats it would fail, and its agent's sample be masked, at the agent's will.
ARGUMENTS = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a tool from its function alone: the same for all instances of a class."""

    name: str
    input_schema: JSONObject
    is_async: bool
    arguments: type[BaseModel]
    fields: Mapping[str, str]
    """Field of `arguments` -> parameter."""
    filled: frozenset[str]
    """Fields whose default only pydantic knows: `city: str = Field("Paris")`."""
    sessions: tuple[str, ...]
    session_ids: tuple[str, ...]
    has_models: bool
    """Whether a parameter has a model of the author's, whose own configuration rules it."""

    def bind(self, session: Session[Any], arguments: JSONObject) -> dict[str, Any]:
        """Return what to call the function with.

        Raises: InvalidArguments: the arguments do not fit.
        """
        try:
            # As JSON: a strict field then takes a date as text, and what a tool does to its
            # arguments is not done to the record's.
            # The model is of our own making, so that its validator does all that it would.
            sent_json = pydantic_core.to_json(arguments)
            validated = self.arguments.__pydantic_validator__.validate_json(sent_json)
        except ValidationError as exc:
            raise InvalidArguments(explain(exc, self.name, self.fields.values())) from exc
        sent, values = validated.model_fields_set, validated.__dict__
        chosen = {
            parameter: values[field]
            for field, parameter in self.fields.items()
            # what was not sent is the function's own default
            if field in sent or field in self.filled
        }
        if self.has_models:
            refuse_non_finite(chosen, self.name)
        for parameter in self.sessions:
            chosen[parameter] = session
        for parameter in self.session_ids:
            chosen[parameter] = session.id
        return chosen


# An argument model costs 19 KiB and 1.4 ms: the instances of a class share it.
_plans: WeakKeyDictionary[Callable[..., Any], dict[str, Plan]] = WeakKeyDictionary()


def plan_for(name: str, method: Callable[..., Any]) -> Plan:
    """Return a method's plan.

    Raises: ToolDefinitionError: a signature that can't be offered.
    """
    function = getattr(method, "__func__", method)
    plans = _plans.setdefault(function, {})
    if name not in plans:
        plans[name] = _make_plan(name, function, method)
    return plans[name]


def _make_plan(name: str, function: Callable[..., Any], method: Callable[..., Any]) -> Plan:
    hints = _resolve_hints(function, name)
    parameters = inspect.signature(method).parameters
    sessions, session_ids = injected(parameters, hints, name)
    fields: dict[str, str] = {}
    filled: set[str] = set()
    definitions: dict[str, Any] = {}
    for parameter in parameters.values():
        check_parameter(parameter, name)
        if parameter.name in sessions or parameter.name in session_ids:
            continue
        # fields are numbered, parameters are aliases: `copy` or `_x` are no field names
        field = f"p{len(fields)}"
        fields[field] = parameter.name
        hint = hints.get(parameter.name, Any)
        default = ... if parameter.default is parameter.empty else parameter.default
        if isinstance(default, FieldInfo):
            hint, default = Annotated[hint, default], default.default
            filled.add(field)
        definitions[field] = (hint, Field(default, alias=parameter.name))
    try:
        model = create_model(f"{name}_arguments", __config__=ARGUMENTS, **definitions)
        schema = model.model_json_schema(schema_generator=_ToolSchema)
        finite_json(schema)
    except (PydanticUserError, SchemaError, NameError, TypeError, ValueError) as exc:
        raise ToolDefinitionError(f"tool {name!r}: no schema for its parameters: {exc}") from exc
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return Plan(
        name=name,
        input_schema=schema,
        is_async=is_async(function),
        arguments=model,
        fields=fields,
        filled=frozenset(filled),
        sessions=sessions,
        session_ids=session_ids,
        has_models="$defs" in schema,
    )


def refuse_non_finite(arguments: Mapping[str, Any], tool_name: str) -> None:
    """Refuse a NaN or an infinity in what was validated: see `ARGUMENTS`.

    Raises: InvalidArguments.
    """
    for name, value in arguments.items():
        if not _is_finite(value):
            raise InvalidArguments(
                f"Invalid arguments for {tool_name!r}: {name}: a number is not finite."
            )


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, BaseModel):  # an author's default may be infinite
        return all(_is_finite(getattr(value, name)) for name in value.model_fields_set)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_finite, value))
    return True


class _ToolSchema(GenerateJsonSchema):
    """Schemas without the titles that pydantic makes of the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Say nothing of a default that is left out, not being JSON: the function has it."""

    def encode_default(self, dft: Any) -> Any:
        encoded = super().encode_default(dft)
        try:
            finite_json(encoded)
        except ValueError as exc:
            raise PydanticSerializationError(str(exc)) from exc
        return encoded


def _resolve_hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Return a tool's annotations.

    Raises: ToolDefinitionError: one of them can't be resolved.
    """
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as exc:
        raise ToolDefinitionError(f"tool {name!r}: an annotation can't be resolved: {exc}") from exc


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a function, or what a decorator has wrapped in it, is `async def`."""
    return any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function))))


def check_parameter(parameter: inspect.Parameter, name: str) -> None:
    """Refuse what no agent could send.

    Raises: ToolDefinitionError: `*args`, `**kwargs`, a positional-only one, or one named `request`.
    """
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise ToolDefinitionError(f"tool {name!r}: parameter {str(parameter)!r} has no schema")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ToolDefinitionError(
            f"tool {name!r}: parameter {parameter.name!r} is positional-only; arguments have names"
        )
    if parameter.name == "request":
        raise ToolDefinitionError(f"tool {name!r}: a parameter can't be named 'request'")


def injected(
    parameters: typing.Iterable[str], hints: Mapping[str, Any], name: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the parameters that take the session, and those that take its id.

    Raises: ToolDefinitionError: a `session_id` that is no `str`.
    """
    sessions = tuple(each for each in parameters if _is_session(hints.get(each)))
    ids = tuple(each for each in parameters if each == "session_id" and each not in sessions)
    if ids and _bare(hints.get("session_id", str)) is not str:
        raise ToolDefinitionError(
            f"tool {name!r}: 'session_id' is the session's own id, a str: name the parameter "
            "otherwise, or annotate it so"
        )
    return sessions, ids


def _is_session(hint: Any) -> bool:
    bare = _bare(hint)
    return (get_origin(bare) or bare) is Session


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def explain(error: ValidationError, tool_name: str, parameters: typing.Iterable[str]) -> str:
    """Say in plain words what is wrong with a call's arguments; its values are not repeated."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "missing":
            lines.append(f"missing argument {path!r}")
        elif item["type"] == "extra_forbidden":
            lines.append(f"unknown argument {path!r}")
        elif item["type"] == "union_tag_invalid":  # pydantic's text repeats the value
            lines.append(f"{path}: expected one of {item.get('ctx', {})['expected_tags']}")
        else:
            lines.append(f"{path}: {item['msg']}")
    takes = ", ".join(parameters) or "no arguments"
    return f"Invalid arguments for {tool_name!r}: {'; '.join(lines)}. It takes: {takes}."
