"""What a task asks of a trajectory: this environment's `verifier_metadata`."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from gym_env_external_verifier.patterns import check_pattern, invalid, matches
from gymhost import InvalidTask
from gymhost.trajectory import TrajectoryCall

__all__ = [
    "CallPattern",
    "ForbiddenCall",
    "RequiredCall",
    "RequiredText",
    "Requirements",
    "names_of",
    "read_requirements",
]

MOST = 200
"""Calls that a task can require, counting `at_least`; texts and forbidden calls in one list."""
SHOWN = 5


class _Strict(BaseModel):
    """No unknown keys: a misspelt one would make a task easier, and nobody would notice."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _spelt_out_text(value: Any) -> Any:
    if isinstance(value, str):
        return {"all_of": [value]}
    if isinstance(value, list):
        return {"all_of": value}
    if not isinstance(value, dict):
        raise invalid("a text, a list of texts or an object with all_of or any_of is needed")
    return value


def _spelt_out_call(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise invalid("a tool's name, or an object with its name, is needed")
    return value


def _checked_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    for name, pattern in arguments.items():
        if name.startswith("$"):
            raise invalid("a matcher stands for one argument: name it first", (name,))
        check_pattern(pattern, (name,))
    return arguments


Name = Annotated[str, Field(min_length=1, max_length=256)]
Part = Annotated[str, Field(min_length=1)]
Arguments = Annotated[dict[str, Any], AfterValidator(_checked_arguments)]


class RequiredText(_Strict):
    """What a text must contain: all of some parts, one of others, or both."""

    all_of: list[Part] = Field(default_factory=list, max_length=MOST)
    any_of: list[Part] | None = Field(None, min_length=1, max_length=MOST)
    ignore_case: bool = False

    @model_validator(mode="after")
    def _asks_for_something(self) -> RequiredText:
        if not self.all_of and not self.any_of:
            raise invalid("give all_of or any_of, with a text in it")
        return self

    def share(self, text: str) -> float:
        """Return how much of it a text contains, from 0 to 1; `any_of` counts like one part."""
        if self.ignore_case:
            text = text.casefold()
        found = [self._folded(part) in text for part in self.all_of]
        if self.any_of:
            found.append(any(self._folded(part) in text for part in self.any_of))
        return sum(found) / len(found)

    def _folded(self, part: str) -> str:
        return part.casefold() if self.ignore_case else part


Text = Annotated[RequiredText, BeforeValidator(_spelt_out_text)]


class CallPattern(_Strict):
    """Calls of one tool; with `arguments`, those that have these among others."""

    name: Name
    arguments: Arguments = Field(default_factory=dict)

    def fits(self, call: TrajectoryCall) -> bool:
        """Whether a call of this name has the arguments, whatever became of it."""
        return matches(self.arguments, call.arguments)


class ForbiddenCall(CallPattern):
    """A tool that must not be called, or not more often than `at_most`."""

    at_most: int = Field(0, ge=0)


class RequiredCall(CallPattern):
    """A tool that must have been called."""

    output: Text | None = None
    at_least: int = Field(1, ge=1, le=MOST)
    at_most: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _can_be_met(self) -> RequiredCall:
        if self.at_most is not None and self.at_most < self.at_least:
            raise invalid(f"less than at_least, which is {self.at_least}", ("at_most",))
        return self

    def is_met_by(self, call: TrajectoryCall) -> bool:
        """Whether a call that fits was answered, without an error, as it must be."""
        answered = call.output is not None and not call.is_error and call.is_well_formed
        return answered and (self.output is None or self.output.share(call.output or "") == 1)


Required = Annotated[RequiredCall, BeforeValidator(_spelt_out_call)]
Forbidden = Annotated[ForbiddenCall, BeforeValidator(_spelt_out_call)]


class Requirements(_Strict):
    """What a task asks for. Each part is a component of the reward."""

    calls: list[Required] = Field(default_factory=list, max_length=MOST)
    ordered: bool = False
    forbidden: list[Forbidden] = Field(default_factory=list, max_length=MOST)
    answer: Text | None = None
    weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(default_factory=dict)
    partial_credit: bool = True

    @model_validator(mode="after")
    def _can_be_met(self) -> Requirements:
        if not self.calls and self.answer is None:
            raise invalid("give calls or an answer: with neither, doing nothing would be enough")
        if self.total > MOST:
            raise invalid(f"{self.total} calls are required, more than {MOST}", ("calls",))
        for index, forbidden in enumerate(self.forbidden):
            if not (forbidden.arguments or forbidden.at_most) and any(
                forbidden.name in names_of(TrajectoryCall(call.name, {}, None, None))
                for call in self.calls
            ):
                raise invalid(f"{forbidden.name} is required, too", ("forbidden", index))
        for name in self.weights:
            if name not in self.components:
                raise invalid(
                    f"no component of this task: it has {', '.join(self.components)}",
                    ("weights", name),
                )
        return self

    @cached_property
    def total(self) -> int:
        """How many calls are required in all."""
        return sum(call.at_least for call in self.calls)

    @cached_property
    def components(self) -> tuple[str, ...]:
        """The names of the reward's components."""
        names = [f"calls.{index}" for index in range(len(self.calls))]
        if self.ordered and self.total > 1:
            names.append("order")
        if self.forbidden:
            names.append("forbidden")
        if self.answer is not None:
            names.append("answer")
        return tuple(names)

    def weight(self, component: str) -> float:
        """Return what a component counts for in the mean."""
        return self.weights.get(component, 1.0)


def names_of(call: TrajectoryCall) -> set[str]:
    """Return the names that a task may know a call by: with its server, and without."""
    return {call.emitted_name, call.name}


def read_requirements(metadata: dict[str, Any]) -> Requirements:
    """Read a task's `verifier_metadata`.

    Raises: InvalidTask: it is none; the text names each field and what is wrong with it.
    """
    try:
        return Requirements.model_validate(metadata)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False)
        told = [_told(error) for error in found[:SHOWN]]
        if len(found) > SHOWN:
            told.append(f"and {len(found) - SHOWN} more")
        raise InvalidTask("; ".join(told)) from exc


def _told(error: ErrorDetails) -> str:
    path = (*error["loc"], *error.get("ctx", {}).get("path", ()))
    # cut: an unknown key may be of any length
    named = ".".join(["verifier_metadata", *(str(part)[:80] for part in path)])
    return f"{named}: {'unknown' if error['type'] == 'extra_forbidden' else error['msg']}"
