"""What became of each plugin: up, blocked, or failed and why."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from gymhost.errors import PluginLoadError

__all__ = ["Kind", "PluginRecord", "check_all_up", "describe"]

Kind = Literal["environment", "extension", "unknown"]


def _as_it_is(text: str) -> str:
    return text


@dataclass(slots=True)
class PluginRecord:
    """What became of one plugin, or of one mounted environment."""

    name: str
    kind: Kind
    status: Literal["up", "failed", "blocked"]
    distribution: str | None = None
    version: str | None = None
    error: BaseException | None = None
    mask: Callable[[str], str] = field(default=_as_it_is, repr=False, compare=False)
    """Hides the operator's secrets, which an author's error may quote."""
    seconds: float = field(default=0.0, compare=False)
    """What importing it, building it and reading its tools took, without shared imports."""

    @contextmanager
    def timed(self) -> Generator[None]:
        """Add what the block takes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begun

    @property
    def reason(self) -> str | None:
        """Why it failed, in one line, the cause included."""
        return None if self.error is None else self.mask(describe(self.error))

    @property
    def traceback(self) -> str:
        """How it failed, in many lines."""
        return self.mask("".join(traceback.format_exception(self.error)))


def check_all_up(records: Sequence[PluginRecord]) -> None:
    """Refuse to go on where something failed.

    Raises: PluginLoadError: all of what failed, a line each.
    """
    failed = [record for record in records if record.status == "failed"]
    if failed:
        lines = "".join(f"\n  {record.name}: {record.reason}" for record in failed)
        raise PluginLoadError(f"not everything can be served:{lines}") from failed[0].error


def describe(error: BaseException) -> str:
    """Return an error and its causes in one line."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = _describe_one(current)
        if not parts or text not in parts[-1]:
            parts.append(text)
        current = current.__cause__
    return ": ".join(" ".join(part.split()) for part in parts)


def _describe_one(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(part) for part in error.exceptions)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an author's __str__ must not hide what is wrong
        text = ""
    if isinstance(error, PluginLoadError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
