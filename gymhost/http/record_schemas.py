"""The shapes of the record: a session, whole and in a list."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict  # typing's is not pydantic's before 3.12

from gymhost.http.schemas import CLOSED, OPEN
from gymhost.models import JSONObject
from gymhost.stores import Status

__all__ = ["Call", "ListedSession", "Pruned", "RecordedVerdict", "SessionRecord", "Sessions"]

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


@with_config(CLOSED)
class Call(TypedDict):
    """One tool call, as the host recorded it."""

    id: str
    name: str
    arguments: JSONObject
    """As the agent sent them."""
    kind: str
    """`ok`, or how it failed."""
    result: str | None
    error: str | None
    """The failure that the agent read."""
    content: list[JSONObject]
    """MCP content blocks."""
    structured_content: JSONObject | None
    started_at: Time
    duration: float
    """Seconds, waiting for the session's earlier calls not included."""


@with_config(CLOSED)
class ShortVerdict(TypedDict):
    """The score, without what is beside it."""

    reward: NotRequired[float]
    unmasked_reward: NotRequired[float]
    """In place of `reward` where `mask_sample` is true."""
    mask_sample: bool
    failure_kind: str | None
    """What had spoiled the sample; null for a clean one."""


@with_config(CLOSED)
class ListedSession(TypedDict):
    """What a list says of a session."""

    session_id: str
    environment: str
    status: Status
    failures: dict[str, int]
    """Calls that failed, by kind."""
    verdict: ShortVerdict | None
    pinned: bool
    """Whether it lives in one process."""
    created_at: Time
    used_at: Time | None
    ended_at: Time | None


@with_config(CLOSED)
class Sessions(TypedDict):
    """A page of sessions, newest first."""

    sessions: list[ListedSession]
    cursor: str | None
    """Where the next page begins; null after the last."""


@with_config(CLOSED)
class Pruned(TypedDict):
    """How many sessions were forgotten."""

    pruned: int


@with_config(OPEN)
class RecordedVerdict(TypedDict):
    """The score, with what the environment added."""

    reward: NotRequired[float]
    unmasked_reward: NotRequired[float]
    """In place of `reward` where `mask_sample` is true."""
    mask_sample: bool
    reward_components: NotRequired[dict[str, float]]
    failure_kind: str | None
    """What had spoiled the sample; null for a clean one."""
    recorded_at: Time


@with_config(CLOSED)
class SessionRecord(TypedDict):
    """All that is known of a session; its tokens are not."""

    session_id: str
    environment: str
    status: Status
    task: JSONObject
    state: Any
    allowed_tools: list[str] | None
    """Null: all of the environment's."""
    calls: list[Call]
    failures: dict[str, int]
    """Calls that failed, by kind."""
    verdict: RecordedVerdict | None
    trajectory: NotRequired[Any]
    """The `response` that was scored: only where the configuration has `keep_trajectories`."""
    pinned: bool
    """Whether it lives in one process."""
    created_at: Time
    used_at: Time | None
    ended_at: Time | None
