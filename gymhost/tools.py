"""A method becomes an MCP tool: its name, its schema, what is injected, and how it answers."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Protocol, TypeVar, get_args, get_origin, overload
from weakref import WeakKeyDictionary

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, SchemaError

from gymhost.errors import InvalidArguments, ToolDefinitionError, UnknownTool
from gymhost.models import JSONObject, ToolCall, ToolOutcome
from gymhost.session import Session
from gymhost.threads import Threads

__all__ = ["MethodTool", "Tool", "ToolOptions", "ToolSet", "method_tools", "tool"]

RESERVED_NAMES = frozenset({"verify", "seed_session", "close_session", "aggregate_metrics", "mcp"})
# MCP 2025-11-25 allows more (dots, 128 characters); models' APIs take these.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MARK = "__gymhost_tool__"

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """How the host runs a tool."""

    timeout: float | None = None
    """Seconds; None is the environment's limit."""
    concurrent: bool = False
    """Run beside the session's other calls, with a state that can't be changed."""
    timeout_masks: bool = False
    """A timeout is the environment's fault, and spoils the sample."""


@overload
def tool(function: _FunctionT, /) -> _FunctionT: ...
@overload
def tool(
    *, timeout: float | None = None, concurrent: bool = False, timeout_masks: bool = False
) -> Callable[[_FunctionT], _FunctionT]: ...
def tool(
    function: Any = None,
    /,
    *,
    timeout: float | None = None,
    concurrent: bool = False,
    timeout_masks: bool = False,
) -> Any:
    """Mark a method as a tool: its name, docstring and typed parameters are what the agent sees."""
    if timeout is not None and not timeout > 0:
        raise ValueError(f"a tool's timeout must be a positive number of seconds, not {timeout!r}")
    if isinstance(function, str | int | float):
        raise TypeError(f"@tool({function!r}): its options have names, as in @tool(timeout=5)")
    options = ToolOptions(timeout, concurrent, timeout_masks)

    def mark(function: _FunctionT) -> _FunctionT:
        setattr(function, _MARK, options)
        return function

    return mark if function is None else mark(function)


class Tool(Protocol):
    """What the host needs of a tool, however it was defined."""

    name: str
    description: str
    input_schema: JSONObject
    options: ToolOptions

    async def run(self, session: Session[Any], arguments: JSONObject) -> Any:
        """Return what the tool returns.

        Raises: InvalidArguments, ToolError, and whatever the author's code raises.
        """


class ToolSet:
    """One environment's tools, by name."""

    def __init__(self, result_bytes: int) -> None:
        self._tools: dict[str, Tool] = {}
        self._result_bytes = result_bytes

    def add(self, tool: Tool) -> None:
        """Add a tool.

        Raises: ToolDefinitionError: a name that is taken, reserved, or not a tool name.
        """
        if not NAME.fullmatch(tool.name):
            raise ToolDefinitionError(
                f"tool name {tool.name!r}: use 1 to 64 ASCII letters, digits, '_' and '-'"
            )
        if tool.name in RESERVED_NAMES:
            raise ToolDefinitionError(f"tool name {tool.name!r} is reserved")
        if tool.name in self._tools:
            raise ToolDefinitionError(f"two tools are named {tool.name!r}")
        self._tools[tool.name] = tool

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> typing.Iterator[Tool]:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool | None:
        """Return the tool of that name."""
        return self._tools.get(name)

    async def run(self, session: Session[Any], call: ToolCall) -> ToolOutcome:
        """Run one call.

        Raises: ToolError: the agent's or the author's; and whatever the tool raises.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            raise UnknownTool(f"There is no tool named {call.name!r}.")
        return to_outcome(await tool.run(session, call.arguments), self._result_bytes)


def to_outcome(value: Any, result_bytes: int) -> ToolOutcome:
    """Return a tool's value as MCP content.

    A string is text alone: beside structured content, some agents show the model the JSON.

    Raises: ValueError, pydantic_core.PydanticSerializationError: the value is not finite JSON.
    """
    if isinstance(value, ToolOutcome):
        outcome = value
        encoded = finite_json([value.content, value.structured_content]).encode()
    elif isinstance(value, str):
        outcome, encoded = ToolOutcome.ok(value), value.encode()
    else:
        plain = pydantic_core.to_jsonable_python(value)
        text = finite_json(plain)
        encoded = text.encode()
        structured = isinstance(value, BaseModel | Mapping) or dataclasses.is_dataclass(value)
        outcome = ToolOutcome(
            [{"type": "text", "text": text}],
            structured_content=plain if structured and isinstance(plain, dict) else None,
        )
    if len(encoded) > result_bytes:
        return ToolOutcome.error(
            f"The result has {len(encoded)} bytes, more than the {result_bytes} allowed.", "limit"
        )
    return outcome


def finite_json(value: Any) -> str:
    """Return plain data as JSON.

    Raises: ValueError: a NaN or an infinity.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class MethodTool:
    """A method marked with `@tool`, of one instance."""

    def __init__(
        self, name: str, method: Callable[..., Any], options: ToolOptions, threads: Threads
    ) -> None:
        self._plan = _plan(name, method)
        self._method = method
        self._threads = threads
        self.name = name
        self.description = inspect.getdoc(method) or ""
        self.input_schema = self._plan.input_schema
        self.options = options

    async def run(self, session: Session[Any], arguments: JSONObject) -> Any:
        chosen = self._plan.bind(session, arguments)
        if self._plan.is_async:
            result = self._method(**chosen)
        else:
            result = await self._threads.run(partial(self._method, **chosen))
        # a decorator may hide a coroutine function behind a plain one, or the other way round
        return await result if inspect.isawaitable(result) else result


def method_tools(instance: object, threads: Threads) -> list[MethodTool]:
    """Return the instance's marked methods as tools, in the order in which they are defined.

    Raises: ToolDefinitionError: a signature that can't be offered.
    """
    found: dict[str, tuple[Callable[..., Any], ToolOptions]] = {}
    for cls in reversed(type(instance).__mro__):
        for name, member in vars(cls).items():
            # below @staticmethod or @classmethod, the mark is on the function inside
            marked = member.__func__ if isinstance(member, staticmethod | classmethod) else member
            options = getattr(member, _MARK, None) or getattr(marked, _MARK, None)
            if isinstance(options, ToolOptions):
                found[name] = (getattr(instance, name), options)
            elif name in found:
                del found[name]  # overridden without the mark: no longer a tool
    return [MethodTool(name, method, options, threads) for name, (method, options) in found.items()]


@dataclass(frozen=True, slots=True)
class _Plan:
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

    def bind(self, session: Session[Any], arguments: JSONObject) -> dict[str, Any]:
        try:
            # As JSON: a strict field then takes a date as text, and what a tool does to its
            # arguments is not done to the record's.
            validated = self.arguments.model_validate_json(pydantic_core.to_json(arguments))
        except ValidationError as exc:
            raise InvalidArguments(explain(exc, self.name, self.fields.values())) from exc
        chosen = {
            parameter: getattr(validated, field)
            for field, parameter in self.fields.items()
            # what was not sent is the function's own default
            if field in validated.model_fields_set or field in self.filled
        }
        chosen.update(dict.fromkeys(self.sessions, session))
        chosen.update(dict.fromkeys(self.session_ids, session.id))
        return chosen


# An argument model costs 19 KiB and 1.4 ms: the instances of a class share it.
_plans: WeakKeyDictionary[Callable[..., Any], dict[str, _Plan]] = WeakKeyDictionary()


def _plan(name: str, method: Callable[..., Any]) -> _Plan:
    function = getattr(method, "__func__", method)
    plans = _plans.setdefault(function, {})
    if name not in plans:
        plans[name] = _make_plan(name, function, method)
    return plans[name]


def _make_plan(name: str, function: Callable[..., Any], method: Callable[..., Any]) -> _Plan:
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
        model = create_model(
            f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **definitions
        )
        schema = model.model_json_schema(schema_generator=_ToolSchema)
        finite_json(schema)
    except (PydanticUserError, SchemaError, NameError, TypeError, ValueError) as exc:
        raise ToolDefinitionError(f"tool {name!r}: no schema for its parameters: {exc}") from exc
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return _Plan(
        name=name,
        input_schema=schema,
        is_async=is_async(function),
        arguments=model,
        fields=fields,
        filled=frozenset(filled),
        sessions=sessions,
        session_ids=session_ids,
    )


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
