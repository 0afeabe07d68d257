"""What a tool, seed and verify receive: one session, with a private copy of its state."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic

import pydantic_core
from pydantic import BaseModel
from typing_extensions import TypeVar

from gymhost.models import Task, ToolCall
from gymhost.pins import Pin

__all__ = ["NoState", "Session", "checked_state", "dump_state"]


class NoState(BaseModel):
    """The state of an environment that keeps none."""


StateT = TypeVar("StateT", bound=BaseModel, default=NoState)
_ValueT = TypeVar("_ValueT")


class Session(Generic[StateT]):
    """One attempt's side of the server, as one hook or tool call sees it.

    `state` is a private copy: what a tool changes is kept when the tool returns or raises
    ToolError, and is gone when it crashes, times out or is cancelled. Copies are made by JSON,
    as in a store: a state that would come back different is a failure.
    """

    __slots__ = (
        "_calls",
        "_dumped",
        "_dumped_calls",
        "_model",
        "_pin",
        "_read_only",
        "_state",
        "_task",
        "environment",
        "failure_kind",
        "id",
    )

    def __init__(
        self,
        session_id: str,
        environment: str,
        task: bytes | Task,
        *,
        model: type[StateT],
        state: bytes | None = None,
        calls: Sequence[bytes] = (),
        read_only: bool = False,
        pin: Pin | None = None,
    ) -> None:
        self.id = session_id
        """Empty in the detached session of a stateless environment's verify."""
        self.environment = environment
        """The name the environment is mounted under."""
        self.failure_kind: str | None = None
        """During verify: what has spoiled the sample before it, so that its score is no reward."""
        self._task = task
        self._model = model
        self._dumped = state
        self._state: StateT | None = None
        self._dumped_calls = calls
        self._calls: tuple[ToolCall, ...] | None = None
        self._read_only = read_only
        self._pin = pin

    @property
    def task(self) -> Task:
        """The task this session was seeded with."""
        if isinstance(self._task, bytes):
            self._task = Task.from_row(pydantic_core.from_json(self._task))
        return self._task

    @property
    def state(self) -> StateT:
        """The private copy of the state.

        Raises: RuntimeError: during seed, whose return value is the state.
        """
        if self._state is None:
            if self._dumped is None:
                raise RuntimeError("there is no state yet: what seed returns is the state")
            self._state = self._model.model_validate_json(self._dumped)
        return self._state

    @state.setter
    def state(self, value: StateT) -> None:
        if self._read_only:
            raise RuntimeError("a concurrent=True tool can't change the state")
        if self._dumped is None:
            raise RuntimeError("there is no state yet: what seed returns is the state")
        if not isinstance(value, self._model):
            raise TypeError(f"the state is a {self._model.__name__}, not {type(value).__name__}")
        self._state = value

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Every tool call of this session that has ended, in the order in which they ended."""
        if self._calls is None:
            self._calls = tuple(ToolCall.load(data) for data in self._dumped_calls)
        return self._calls

    @property
    def call_count(self) -> int:
        """How many calls have ended: `len(session.calls)`, without reading them."""
        return len(self._dumped_calls)

    async def enter(
        self, manager: AbstractAsyncContextManager[_ValueT] | AbstractContextManager[_ValueT]
    ) -> _ValueT:
        """Enter a context manager (a browser, say) for the session's life; return its value.

        It is entered, and left, in the session's own task: what was entered last is left first,
        however the session ends. Only in seed, tools and verify of an environment with
        `pinned = True`, whose sessions do not outlive the process.

        Raises: RuntimeError: it is not pinned, has ended, or what it had entered has failed.
        """
        if self._pin is None:
            raise RuntimeError(
                "session.enter needs `pinned = True` on the environment's class, and a session "
                "that has not ended"
            )
        return await self._pin.enter(manager)

    def changed_state(self) -> bytes | None:
        """Return the state to keep; None where it was not read, or is as it was.

        Raises: ValueError: a state that would not survive a store, or that a concurrent tool
        changed.
        """
        if self._state is None or self._dumped is None:
            return None
        dumped = dump_state(self._state, self._model)
        if dumped == self._dumped:
            return None
        if self._read_only:
            # not by its bytes alone: a set may come back in another order
            if self._state == self._model.model_validate_json(self._dumped):
                return None
            raise ValueError("a concurrent=True tool changed the state; it sees it read-only")
        return dumped


def checked_state(state: Any, model: type[StateT]) -> StateT:
    """Return what seed returned.

    Raises: ValueError: it is no `model`.
    """
    if not isinstance(state, model):
        raise ValueError(f"the state must be a {model.__name__}, not {type(state).__name__}")
    return state


def dump_state(state: BaseModel, model: type[BaseModel]) -> bytes:
    """Return a state as JSON.

    Raises: ValueError: it would not come back from a store as it is (NaN, a private attribute, a
    tuple in an `Any`, a value that is not JSON).
    """
    checked_state(state, model)
    try:
        dumped = state.model_dump_json(warnings=False).encode()
        restored = model.model_validate_json(dumped)
    except ValueError as exc:
        raise ValueError(f"the state does not survive being stored as JSON: {exc}") from exc
    if not _is_plainly(restored, state) and restored != state:
        raise ValueError(
            f"the state does not survive being stored as JSON: {_difference(state, restored)}"
        )
    return dumped


def _is_plainly(one: BaseModel, other: BaseModel) -> bool:
    """Whether two states are the same by their values: pydantic's own `==` asks much more."""
    return (
        type(one) is type(other)
        and one.__dict__ == other.__dict__
        and one.__pydantic_private__ == other.__pydantic_private__
        and one.__pydantic_extra__ == other.__pydantic_extra__
    )


def _difference(state: BaseModel, restored: BaseModel) -> str:
    """Say what a state would lose."""
    if type(state) is not type(restored):
        return f"a {type(state).__name__} would come back as a {type(restored).__name__}"
    fields = [
        name for name in type(state).model_fields if getattr(state, name) != getattr(restored, name)
    ]
    if fields:
        return f"what would come back different: {', '.join(fields)}"
    return "its private or extra attributes would come back different"
