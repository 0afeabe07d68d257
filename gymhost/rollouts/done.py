"""What is known of a run's attempts, and where a run is written."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gymhost.models import JSONObject

__all__ = ["Done", "Files", "Key", "Pending"]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """An attempt: the k-th rollout of a task, both from 0."""

    task: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run is written, beside its output."""

    output: Path

    @property
    def failures(self) -> Path:
        """Attempts that came to no score."""
        return self._beside("failures")

    @property
    def inputs(self) -> Path:
        """A row for each attempt, as it was asked."""
        return self._beside("materialized_inputs")

    @property
    def journal(self) -> Path:
        """What is under way: sessions, and what was handed to verify."""
        return self._beside("journal")

    def _beside(self, what: str) -> Path:
        stem = self.output.name.removesuffix(".jsonl")
        return self.output.with_name(f"{stem}_{what}.jsonl")


@dataclass(frozen=True, slots=True)
class Pending:
    """What an earlier runner left: a session that was handed to verify, whose answer is unknown."""

    session_id: str
    number: int
    row: JSONObject
    """The row as it will be, without the verdict."""


class Done:
    """What is known of the attempts. A few bytes for each: a run may have millions."""

    def __init__(self, number: int) -> None:
        self.scored = bytearray(number)
        self.tries = array("L", [0]) * number
        """How often each has failed."""
        self.terminal = bytearray(number)
        self.scores = 0
        self.rewards = 0.0
        self.failures: Counter[str] = Counter()
        """Attempts that have failed and no score, by the class of the last failure."""
        self._classes = [""]
        self._last = array("H", [0]) * number

    def score(self, place: int, reward: float) -> None:
        """Note a score."""
        self._failed(place, "")
        self.scored[place] = 1
        self.scores += 1
        self.rewards += reward

    def fail(self, place: int, failure_class: str, number: int, *, terminal: bool) -> None:
        """Note a failed try, by its number from 0."""
        if not self.scored[place]:
            self._failed(place, failure_class)
        self.tries[place] = max(self.tries[place], number + 1)
        self.terminal[place] |= terminal

    def _failed(self, place: int, failure_class: str) -> None:
        """Change the class under which an attempt is counted; "" for none."""
        before = self._classes[self._last[place]]
        if before:
            self.failures[before] -= 1
        if failure_class not in self._classes:
            self._classes.append(failure_class)
        self._last[place] = self._classes.index(failure_class)
        if failure_class:
            self.failures[failure_class] += 1
