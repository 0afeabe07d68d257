"""The document of what is served, OpenAPI 3.1, written from the table that routes requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from functools import cache, cached_property
from typing import Any

import anyio.to_thread
import pydantic_core
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

import gymhost
from gymhost.errors import (
    InternalError,
    MethodNotAllowed,
    NotFound,
    OverCapacity,
    RequestError,
    Unauthorized,
    UnknownEnvironment,
)
from gymhost.host import Host
from gymhost.http.auth import Guard
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.http.operation import ENVIRONMENT, Answer, Operation
from gymhost.http.operations import SESSION_COOKIE
from gymhost.http.schemas import Problem
from gymhost.models import JSONObject

__all__ = ["OpenApi"]

PROBLEM = "application/problem+json"

DESCRIPTION = """\
One process that hosts many environments for language-model agents.

Trainers `seed_session`, let an agent work through MCP, and `verify`. An error is a problem with
`mask_sample: true`: it is no reward. The status says who failed: 502 and 504 the environment, 503
gymhost itself, its session store or a limit. There is no 500.

HEAD is answered as GET is. Another method than those here is 405, another path 404. A path below
`/envs/` may end in a slash."""

ERROR_HEADERS: dict[type[RequestError], set[str]] = {
    Unauthorized: {"WWW-Authenticate"},
    MethodNotAllowed: {"Allow"},
    OverCapacity: {"Retry-After"},
}
HEADERS = {
    "Allow": "The methods that are.",
    "Retry-After": "Seconds to wait before another try.",
    "Set-Cookie": "Names the session, for requests to its environment's paths.",
    "WWW-Authenticate": "How to authenticate.",
}

TAGS = {
    "sessions": "A session is the life of one attempt, from seed to close.",
    "environments": "What is mounted.",
    "agents": "The agent plane: MCP, opened by a session's token.",
    "server": "The process.",
}


class OpenApi:
    """The document of one application. It is written when it is first asked for."""

    def __init__(
        self,
        operations: tuple[Operation, ...],
        host: Host,
        guard: Guard,
        public_url: str | None = None,
    ) -> None:
        self._operations = operations
        self._host = host
        self._guard = guard
        self._public_url = public_url
        self._json: bytes | None = None

    async def json(self) -> bytes:
        """Return the document."""
        if self._json is None:
            # in a thread: the first of a process takes a tenth of a second
            self._json = await anyio.to_thread.run_sync(self._write)
        return self._json

    def _write(self) -> bytes:
        return pydantic_core.to_json(self.document)

    @cached_property
    def document(self) -> JSONObject:
        """What is served. It does not change: nothing is mounted or taken out while it is."""
        refusal = self._guard.refusal
        paths, components = _write(self._operations, refusal)  # type: ignore[arg-type]  # a class
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "gymhost",
                "version": gymhost.__version__,
                "description": DESCRIPTION,
            },
            "servers": [{"url": self._public_url or "/"}],
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "paths": paths,
            "components": {
                **components,
                "parameters": {"Environment": _environment(self._host.mounts)},
            },
        }


@cache
def _write(
    operations: tuple[Operation, ...], refusal: type[RequestError]
) -> tuple[JSONObject, JSONObject]:
    """Return the paths, and the components but for what is mounted."""
    writer = _Writer(operations, refusal)
    paths: dict[str, JSONObject] = {}
    for operation in operations:
        item = paths.setdefault(operation.path, _path_item(operation.path))
        item[operation.method.lower()] = writer.operation(operation)
    components = {
        "schemas": writer.components,
        "responses": writer.shared_responses(),
        "securitySchemes": writer.security_schemes(),
    }
    return paths, components


class _Writer:
    """Writes operations, over the schemas of all their types."""

    def __init__(self, operations: Iterable[Operation], refusal: type[RequestError]) -> None:
        self._refusal = refusal
        self._schemas, self.components = _schemas(set(_types(operations)))

    def operation(self, operation: Operation) -> JSONObject:
        written: JSONObject = {
            "operationId": operation.operation_id,
            "tags": [operation.tag],
            "summary": operation.summary,
            "description": operation.description,
            "security": self._security(operation),
            "parameters": list(operation.parameters),
            "responses": self._responses(operation),
        }
        if operation.body is not None:
            content: JSONObject = {"schema": self._schemas[operation.body, "validation"]}
            if operation.example is not None:
                content["example"] = operation.example
            written["requestBody"] = {"content": {"application/json": content}}
        return written

    def security_schemes(self) -> JSONObject:
        schemes: JSONObject = {
            "sessionToken": {
                "type": "apiKey",
                "in": "header",
                "name": TOKEN_HEADER,
                "description": "The agent's, for one session: seed_session answers it.",
            }
        }
        if self._refusal is Unauthorized:
            schemes["controlKey"] = {
                "type": "http",
                "scheme": "bearer",
                "description": "The trainer's and operator's: `gymhost key` shows it.",
            }
        return schemes

    def shared_responses(self) -> JSONObject:
        """Return what is answered where nothing is served, or not by this method."""
        return {
            "NotFound": self._response(None, [NotFound, UnknownEnvironment]),
            "MethodNotAllowed": self._response(None, [MethodNotAllowed]),
        }

    def _security(self, operation: Operation) -> list[JSONObject]:
        if operation.security == "session token":
            return [{}, {"sessionToken": []}]  # without, too: only tools/call needs it
        if operation.security == "control key" and self._refusal is Unauthorized:
            return [{"controlKey": []}]
        return []

    def _responses(self, operation: Operation) -> JSONObject:
        errors: dict[int, list[type[RequestError]]] = defaultdict(list)
        for error in operation.errors:
            errors[error.status].append(error)
        if operation.security == "control key":
            errors[self._refusal.status].append(self._refusal)
        errors[503] += [OverCapacity, InternalError]  # stopping, or a bug: whatever is asked
        cookie = {"Set-Cookie"} if SESSION_COOKIE in operation.parameters else set[str]()
        return {
            str(status): self._response(operation.answers.get(status), errors[status], cookie)
            for status in sorted({*operation.answers, *errors})
        }

    def _response(
        self,
        answer: Answer | None,
        errors: Sequence[type[RequestError]],
        headers: Collection[str] = (),
    ) -> JSONObject:
        lines = [] if answer is None else [answer.description]
        sources = [] if answer is None else [set(answer.headers)]
        content: JSONObject = {}
        response: JSONObject = {"description": "", "headers": {}, "content": content}
        if answer is not None:
            for media_type, body in answer.content.items():
                content[media_type] = {"schema": self._schemas[body, "serialization"]}
            if answer.links:
                response["links"] = answer.links
        for error in errors:
            kinds = ", ".join(f"`{kind}`" for kind in error.failure_kinds())
            lines.append(f"- {kinds}: {_first_sentence(error.__doc__ or '')}")
            sources.append(ERROR_HEADERS.get(error, set()))
        if errors:
            content[PROBLEM] = {"schema": self._problem(errors)}
        response["description"] = "\n".join(lines)
        always = set[str].intersection(*sources)
        for name in sorted(always.union(*sources, headers)):
            response["headers"][name] = {
                "description": HEADERS[name],
                "required": name in always,
                "schema": {"type": "string"},
            }
        return response

    def _problem(self, errors: Sequence[type[RequestError]]) -> JSONObject:
        status = errors[0].status
        kinds = {kind for error in errors for kind in error.failure_kinds()}
        narrowed = {"status": {"const": status}, "failure_kind": {"enum": sorted(kinds)}}
        return {**self._schemas[Problem, "serialization"], "properties": narrowed}


def _path_item(path: str) -> JSONObject:
    if not path.startswith(ENVIRONMENT):
        return {}
    return {"parameters": [{"$ref": "#/components/parameters/Environment"}]}


def _environment(names: Iterable[str]) -> JSONObject:
    schema: JSONObject = {"type": "string"}
    if names := sorted(names):
        schema["enum"] = names
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "What is mounted now.",
        "schema": schema,
    }


def _types(operations: Iterable[Operation]) -> Iterator[tuple[Any, JsonSchemaMode]]:
    yield Problem, "serialization"
    for operation in operations:
        if operation.body is not None:
            yield operation.body, "validation"
        for answer in operation.answers.values():
            for body in answer.content.values():
                yield body, "serialization"


def _schemas(
    types: Set[tuple[Any, JsonSchemaMode]],
) -> tuple[dict[tuple[Any, JsonSchemaMode], JSONObject], JSONObject]:
    """Return each type's schema, and the components that they refer to."""
    schemas, components = TypeAdapter.json_schemas(
        [(each, mode, TypeAdapter(each)) for each, mode in sorted(types, key=str)],
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    named: JSONObject = components["$defs"]
    for schema in named.values():
        schema["description"] = _first_sentence(schema["description"])
    return dict(schemas), named


class _SchemaGenerator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title that says the field's name again is none."""
        return False


def _first_sentence(docstring: str) -> str:
    """Return the first paragraph, in one line."""
    return " ".join(docstring.strip().partition("\n\n")[0].split())
