"""The shapes of the wire: what each plane is sent and answers, as `/openapi.json` has them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # typing's is not pydantic's before 3.12

from gymhost.errors import StoreReason
from gymhost.limits import Limits
from gymhost.models import JSONObject
from gymhost.stores import Status

__all__ = [
    "CLOSED",
    "OPEN",
    "AggregateBody",
    "Closed",
    "Environment",
    "Environments",
    "Health",
    "Index",
    "JsonRpcAnswer",
    "JsonRpcError",
    "JsonRpcMessage",
    "Problem",
    "Readiness",
    "SeedBody",
    "SessionBody",
    "VerifyBody",
    "VerifyScore",
]

# The sentences below the keys are the document's, too.
CLOSED = ConfigDict(use_attribute_docstrings=True)
OPEN = ConfigDict(use_attribute_docstrings=True, extra="allow")


@with_config(OPEN)
class SeedBody(TypedDict):
    """A task, which the environment's `seed` hook gets whole."""

    responses_create_params: NotRequired[JSONObject | None]
    """An OpenAI Responses API request body; its `input` is the agent's instruction."""
    verifier_metadata: NotRequired[JSONObject | None]
    """What the verifier needs to know. The agent never sees it."""


@with_config(OPEN)
class SessionBody(TypedDict):
    """Names the session, where no cookie does."""

    session_id: NotRequired[str | None]
    """The session that seed_session started; without it, the cookie's."""


@with_config(OPEN)
class VerifyBody(SessionBody):
    """What the agent did, to be scored."""

    response: NotRequired[Any]
    """An OpenAI Responses API response object, or its `output` list; read leniently."""
    responses_create_params: NotRequired[Any]
    """An object: the task's. It is echoed."""
    verifier_metadata: NotRequired[Any]
    """An object: the seeded task's, or left out; another one is 409 `task_mismatch`."""


@with_config(OPEN)
class AggregateBody(TypedDict):
    """Many of verify's answers."""

    verify_responses: list[VerifyResponse]


@with_config(OPEN)
class VerifyResponse(TypedDict):
    """One of verify's answers; each number in it, and in its `usage`, is a metric."""

    _ng_task_index: NotRequired[int | None]
    """Attempts of one task have the same."""
    mask_sample: NotRequired[Any]
    """`true` leaves the answer out of every metric."""


@with_config(OPEN)
class VerifyScore(TypedDict):
    """The score, the keys that the environment adds, and the request's own, which are echoed.

    `Prefer: return=minimal` leaves the echo out.
    """

    reward: float
    reward_components: NotRequired[dict[str, float]]
    mask_sample: NotRequired[Literal[True]]
    """Leave the sample out of training: only where the configuration has `on_failure: report`."""
    failure_kind: NotRequired[
        Literal["environment_error", "environment_timeout", "store_error", "cancelled"]
    ]
    """Why, where `mask_sample` is there."""


@with_config(CLOSED)
class Closed(TypedDict):
    """How the session has ended."""

    session_id: str
    status: Status
    """`closed`, or what it was already: a session that has ended stays as it is."""


@with_config(CLOSED)
class Tool(TypedDict):
    """A tool, as MCP's `tools/list` shows it."""

    name: str
    description: str
    inputSchema: JSONObject


@with_config(CLOSED)
class Use(TypedDict):
    """What an environment uses now, of what its limits allow."""

    open_sessions: int
    calls_in_flight: int
    """Running or waiting."""
    calls_waiting: int
    """Of these, those that wait for their session's earlier ones."""
    session_queue: int
    """The most calls that wait, or run at once, in one session."""
    session_calls: int
    """The most calls that one session has made, of those used in the last minute."""
    threads: int
    """For tools, the stuck ones included."""
    hook_threads: int
    """For the hooks, which have as many of their own."""
    threads_waiting: int
    """Tools and hooks that wait for a thread."""
    stuck_threads: int
    """Abandoned after a timeout, and still running."""


@with_config(CLOSED)
class Environment(TypedDict):
    """A mounted environment."""

    name: str
    status: Literal["up", "degraded"]
    """`degraded`: too many abandoned threads still run."""
    distribution: str | None
    version: str | None
    url_path: str
    stateless: bool
    """Whether verify needs no session."""
    tools: list[Tool]
    limits: Limits
    use: Use
    limits_hit: dict[str, int]
    """Since the start: how often each limit was reached, by its name."""
    counts: dict[str, int]
    """Since the start: calls, seeds, verdicts, and failures by kind."""


@with_config(CLOSED)
class Plugin(TypedDict):
    """An installed plugin that is no mounted environment."""

    name: str
    kind: Literal["environment", "extension", "unknown"]
    status: Literal["up", "failed", "blocked"]
    distribution: str | None
    version: str | None


@with_config(CLOSED)
class FailedPlugin(Plugin):
    """A plugin that is not served."""

    reason: str | None
    """Why it failed; null for one that the configuration blocks."""


@with_config(CLOSED)
class Environments(TypedDict):
    """Everything that is installed or configured."""

    environments: list[Environment]
    extensions: list[Plugin]
    failed: list[FailedPlugin]


@with_config(CLOSED)
class Health(TypedDict):
    """The process can answer."""

    status: Literal["ok"]
    version: str


@with_config(CLOSED)
class Readiness(TypedDict):
    """Whether new sessions are taken."""

    status: Literal["ready", "degraded", "stopping", "no environments", "store failed"]
    degraded: int
    """Environments in which too many abandoned threads still run."""
    failed: int
    """Plugins that are not served."""
    store: Literal["ok", "unchecked"] | StoreReason
    """Whether the session store can be written, or why not; unchecked while stopping."""


@with_config(CLOSED)
class Index(TypedDict):
    """Where to look next."""

    gymhost: str
    """The version."""
    environments: str
    health: str
    openapi: str


@with_config(CLOSED)
class Problem(TypedDict):
    """An error (RFC 9457). It is no reward."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    """For people."""
    failure_kind: str
    """For programs."""
    mask_sample: Literal[True]
    """Leave the sample out of training."""
    unmasked_reward: NotRequired[float]
    """The score that a spoiled sample would have had."""
    session_id: NotRequired[str | None]


@with_config(OPEN)
class JsonRpcMessage(TypedDict):
    """A JSON-RPC 2.0 request; without an `id`, a notification."""

    jsonrpc: Literal["2.0"]
    id: NotRequired[str | int]
    method: str
    """`initialize`, `tools/list`, `tools/call`, ..."""
    params: NotRequired[JSONObject | None]


@with_config(CLOSED)
class JsonRpcResult(TypedDict):
    """What the method answers; of a tool that failed, a result with `isError: true`."""

    jsonrpc: Literal["2.0"]
    id: str | int
    result: JSONObject


@with_config(OPEN)
class ErrorObject(TypedDict):
    """A JSON-RPC error."""

    code: int
    message: str


@with_config(CLOSED)
class JsonRpcError(TypedDict):
    """The request was refused; no tool has run."""

    jsonrpc: Literal["2.0"]
    id: str | int | None
    error: ErrorObject


JsonRpcAnswer = JsonRpcResult | JsonRpcError
