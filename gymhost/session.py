"""What a tool, seed and verify receive: one session, with a private copy of its state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, cast

import pydantic_core
from pydantic import BaseModel
from typing_extensions import TypeVar

from gymhost.models import Task, ToolCall

__all__ = ["NoState", "Session", "dump_state"]


class NoState(BaseModel):
    """The state of an environment that keeps none."""


StateT = TypeVar("StateT", bound=BaseModel, default=NoState)


class Session(Generic[StateT]):
    """One attempt's side of the server, as one hook or tool call sees it.

    `state` is a private copy: what a tool changes is kept when the tool returns or raises
    ToolError, and is gone when it crashes, times out or is cancelled. Copies are made by JSON,
    as in a store: what pydantic does not serialise does not last.
    """

    __slots__ = (
        "_calls",
        "_dumped",
        "_model",
        "_read_only",
        "_state",
        "_task",
        "environment",
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
    ) -> None:
        self.id = session_id
        self.environment = environment
        """The name the environment is mounted under."""
        self._task = task
        self._model = model
        self._dumped = state
        self._state: StateT | None = None
        self._calls: Sequence[bytes] | tuple[ToolCall, ...] = calls
        self._read_only = read_only

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
        if not isinstance(self._calls, tuple):
            self._calls = tuple(ToolCall.load(data) for data in self._calls)
        return cast("tuple[ToolCall, ...]", self._calls)

    def changed_state(self) -> bytes | None:
        """Return the state to keep; None where it was not read, or is as it was.

        Raises: ValueError: a state that would not survive a store, or that a concurrent tool
        changed.
        """
        if self._state is None:
            return None
        dumped = dump_state(self._state, self._model)
        if dumped == self._dumped:
            return None
        if self._read_only:
            raise ValueError("a concurrent=True tool changed the state; it sees it read-only")
        return dumped


def dump_state(state: BaseModel, model: type[BaseModel]) -> bytes:
    """Return a state as JSON.

    Raises: ValueError: it would not survive a store (NaN in a float, a value that is not JSON).
    """
    if not isinstance(state, model):
        raise ValueError(f"the state must be a {model.__name__}, not {type(state).__name__}")
    dumped = state.model_dump_json().encode()
    try:
        model.model_validate_json(dumped)
    except ValueError as exc:
        raise ValueError(f"the state does not survive being stored as JSON: {exc}") from exc
    return dumped
