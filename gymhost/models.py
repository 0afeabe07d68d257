"""Tasks, trajectories, tool calls and verdicts: what travels between a trainer and a verifier."""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic_core
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gymhost.errors import InvalidField

__all__ = [
    "MASKING_KINDS",
    "TOKEN_HEADER",
    "CloseReason",
    "JSONObject",
    "McpConnection",
    "Reference",
    "ReferenceCall",
    "SeedAnswer",
    "Task",
    "ToolCall",
    "ToolOutcome",
    "VerifyResult",
]

TOKEN_HEADER = "X-NeMo-Gym-Session-Token"
"""The header in which an agent sends its session's token."""

JSONObject = dict[str, Any]
CloseReason = Literal["verified", "closed", "expired", "shutdown", "lost"]
"""`lost`: a pinned session whose process has crashed, as the next one tells."""


class ReferenceCall(BaseModel):
    """One tool call of a reference."""

    model_config = ConfigDict(extra="forbid")

    name: str
    arguments: JSONObject = Field(default_factory=dict)


class Reference(BaseModel):
    """How a task is solved: `calls` and an `answer`, played through MCP, or a `trajectory`.

    `trajectory` is a Responses API `output` list, submitted as it is.
    """

    model_config = ConfigDict(extra="forbid")

    calls: list[ReferenceCall] = Field(default_factory=list)
    answer: str = ""
    trajectory: list[JSONObject] | None = None
    reward: float = Field(default=1.0, allow_inf_nan=False)
    """What the reference must score."""

    @property
    def is_ambiguous(self) -> bool:
        """Whether only a part of it would be played, and nobody would know which."""
        return self.trajectory is not None and bool(self.calls or self.answer)


NAMED_OBJECTS = frozenset({"responses_create_params", "verifier_metadata"})


def _named_object(row: Mapping[str, Any], key: str) -> JSONObject:
    value = row.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidField(f"{key!r} must be an object, not {json_type(value)}.")
    return value or {}


@dataclass(frozen=True, slots=True)
class Task:
    """One problem: what the agent is asked, and what its verifier needs to know.

    `responses_create_params` is an OpenAI Responses API request body; its `input` is the
    instruction. Every key that is not named here is kept in `extra`.
    """

    responses_create_params: JSONObject = field(default_factory=dict)
    verifier_metadata: JSONObject = field(default_factory=dict)
    extra: JSONObject = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Task:
        """Read a JSONL row or a request body.

        Raises: InvalidField: a named key that is not an object.
        """
        params, metadata = row.get("responses_create_params"), row.get("verifier_metadata")
        if type(params) is not dict or type(metadata) is not dict:
            params = _named_object(row, "responses_create_params")
            metadata = _named_object(row, "verifier_metadata")
        extra = {}
        if not row.keys() <= NAMED_OBJECTS:
            extra = {key: value for key, value in row.items() if key not in NAMED_OBJECTS}
        return cls(params, metadata, extra)

    def to_row(self) -> JSONObject:
        """Return the row again."""
        return {
            "responses_create_params": self.responses_create_params,
            "verifier_metadata": self.verifier_metadata,
            **self.extra,
        }

    @property
    def reference(self) -> Reference | None:
        """How the task is solved, where the row says so.

        Raises: pydantic.ValidationError: a reference that is none.
        """
        raw = self.extra.get("reference")
        return None if raw is None else Reference.model_validate(raw)


MASKING_KINDS = ("environment_error", "environment_timeout", "store_error", "cancelled")
"""What spoils a sample: the environment's fault, or the host's; never what an agent can cause.

`cancelled` is a call that a stop of the server has cut short.
"""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool call came to: MCP content blocks, and how it ended.

    `kind` is `ok`, or what is counted: what an agent can cause at will (`tool_error`,
    `unknown_tool`, `invalid_arguments`, `limit`, `timeout`), or what spoils the sample
    (`environment_error`, `environment_timeout`, `store_error`).
    """

    content: list[JSONObject]
    structured_content: JSONObject | None = None
    is_error: bool = False
    kind: str = "ok"

    @classmethod
    def ok(cls, text: str) -> ToolOutcome:
        """Return a success that is one text."""
        return cls([{"type": "text", "text": text}])

    @classmethod
    def error(cls, text: str, kind: str = "tool_error") -> ToolOutcome:
        """Return a tool error with the text that the agent reads."""
        # a lone surrogate, as from a file's name that is not UTF-8, can't be sent or recorded
        text = text.encode("utf-8", "replace").decode()
        return cls([{"type": "text", "text": text}], is_error=True, kind=kind)

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return "\n".join(block["text"] for block in self.content if block.get("type") == "text")

    @property
    def size(self) -> int:
        """Bytes of the content, or of the structured content where that is larger."""
        content = 0
        for block in self.content:
            text = block["text"] if block.get("type") == "text" else None
            data = pydantic_core.to_json(block) if text is None else text.encode()
            content += len(data)
        if self.structured_content is None:
            return content
        return max(content, len(pydantic_core.to_json(self.structured_content)))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call, as the host recorded it; `outcome` is None while it runs."""

    id: str
    name: str
    arguments: JSONObject
    """As the agent sent them."""
    started_at: float
    """Seconds since the epoch."""
    duration: float = 0.0
    """Seconds, waiting for the session's earlier calls not included."""
    outcome: ToolOutcome | None = None

    @property
    def ok(self) -> bool:
        """Whether the tool ran and answered."""
        return self.outcome is not None and not self.outcome.is_error

    @property
    def result(self) -> str | None:
        """The text that the tool answered; None where it failed."""
        return self.outcome.text if self.outcome is not None and self.ok else None

    @property
    def error(self) -> str | None:
        """The text of the failure that the agent read; None where there was none."""
        return None if self.outcome is None or self.ok else self.outcome.text

    def ended(self, duration: float, outcome: ToolOutcome) -> ToolCall:
        """Return the call as it has ended."""
        return ToolCall(self.id, self.name, self.arguments, self.started_at, duration, outcome)

    def dump(self) -> bytes:
        """Return the call as JSON."""
        return pydantic_core.to_json(self)

    @classmethod
    def load(cls, data: bytes) -> ToolCall:
        """Read what `dump` returned."""
        row = pydantic_core.from_json(data)
        outcome = row.pop("outcome")
        return cls(**row, outcome=None if outcome is None else ToolOutcome(**outcome))


def _as_float(value: Any) -> float:
    # numbers.Real: bool, int, float and numpy's scalars; a string or None is not a reward
    if not isinstance(value, numbers.Real):
        raise ValueError(f"a number is needed, not {type(value).__name__}")
    return float(value)


Finite = Annotated[float, BeforeValidator(_as_float), Field(allow_inf_nan=False)]

RESERVED_RESULT_KEYS = frozenset(
    {
        "failure_kind",
        "mask_sample",
        "response",
        "responses_create_params",
        "session_id",
        "unmasked_reward",
        "verifier_metadata",
    }
)


class VerifyResult(BaseModel):
    """A score. What else is passed, finite JSON under names of its own, goes into the answer."""

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    reward: Finite
    reward_components: dict[str, Finite] = Field(default_factory=dict)

    if TYPE_CHECKING:  # for checkers, which else refuse the extras

        def __init__(
            self, *, reward: float, reward_components: Mapping[str, float] = ..., **extras: Any
        ) -> None: ...

    @model_validator(mode="after")
    def _extras_keep_off_reserved_names(self) -> VerifyResult:
        taken = sorted(
            key
            for key in {*type(self).model_fields, *(self.model_extra or {})}
            if key in RESERVED_RESULT_KEYS or key.startswith("_ng_")
        )
        if taken:
            raise ValueError(f"reserved names can't be extras: {', '.join(taken)}")
        return self


class McpConnection(BaseModel):
    """Where the agent finds its tools, and the one header that opens them."""

    server_name: str
    url_path: str
    url: str
    transport: Literal["http"] = "http"
    headers: dict[str, str]


class SeedAnswer(BaseModel):
    """seed_session's answer. `mcp` is absent where the environment has no tools."""

    model_config = ConfigDict(extra="allow")

    session_id: str
    expires_at: datetime
    """In UTC: when the session ends if it is not used until then."""
    mcp: McpConnection | None = None


def json_type(value: Any) -> str:
    """Name a JSON value's type, for an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return "a number"
    return "an array" if isinstance(value, list) else "an object"


def finite_json(value: Any) -> str:
    """Return plain data as JSON.

    Raises: ValueError: a NaN or an infinity.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
