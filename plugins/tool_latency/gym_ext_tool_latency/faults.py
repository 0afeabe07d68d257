"""What goes wrong in a tool call: how long it takes, and whether it fails."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

__all__ = ["DEFAULT_TEXT", "Delay", "Faults", "read_mapping"]

DEFAULT_TEXT = "The service is unavailable. Try again later."
# Of a normal distribution, 99 % lie below the mean and this many deviations.
P99_DEVIATIONS = 2.3263478740408408


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds: one number, a range in which all are as likely, or a lognormal distribution."""

    low: float = 0.0
    high: float = 0.0
    """Of a lognormal distribution, `low` is the median and `high` what 99 % stay below."""
    lognormal: bool = False

    def draw(self, dice: Random) -> float:
        """Return seconds."""
        if self.lognormal:
            deviation = math.log(self.high / self.low) / P99_DEVIATIONS
            return dice.lognormvariate(math.log(self.low), deviation)
        return dice.uniform(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Faults:
    """What may go wrong in the calls of one tool."""

    delay_seconds: Delay = Delay()
    error_rate: float = 0.0
    """The probability that a call fails, from 0 to 1."""
    error_text: tuple[str, ...] = (DEFAULT_TEXT,)
    """What the agent reads then: one of these, each as likely."""

    @property
    def none(self) -> bool:
        """Whether nothing ever goes wrong."""
        return not self.error_rate and not self.delay_seconds.high

    def draw_error(self, dice: Random) -> str | None:
        """Return what the agent reads; None where the call does not fail."""
        fails, text = dice.random() < self.error_rate, dice.choice(self.error_text)
        return text if fails else None

    def with_options(self, options: object, where: str = "") -> Faults:
        """Return these, with what the options at `where` say otherwise.

        Raises: ValueError: an option that is wrong.
        """
        values: dict[str, Any] = {}
        for name, value in read_mapping(options, where).items():
            if name not in READ:
                raise ValueError(f"{where} has no option {name!r}, only {', '.join(READ)}")
            values[name] = READ[name](value, f"{where}.{name}".lstrip("."))
        return replace(self, **values)


def read_mapping(value: object, name: str) -> Mapping[str, Any]:
    """Read an option that has others.

    Raises: ValueError: it is none.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a mapping, not {value!r}")
    return value


def _read_delay(value: object, name: str) -> Delay:
    match value:
        case [low, high]:
            delay = Delay(_seconds(low, name), _seconds(high, name))
        case {"p50": median, "p99": high, **rest} if not rest:
            delay = Delay(_seconds(median, name), _seconds(high, name), lognormal=True)
        case _:
            seconds = _seconds(value, name)
            delay = Delay(seconds, seconds)
    if delay.low > delay.high or (delay.lognormal and not delay.low):
        raise ValueError(f"{name}: the first must not exceed the second, nor p50 be 0: {value}")
    return delay


def _seconds(value: object, name: str) -> float:
    seconds = _number(value)
    if seconds is None or seconds < 0:
        raise ValueError(f"{name} must be 0 or more, [low, high] or {{p50, p99}}, not {value!r}")
    return seconds


def _read_rate(value: object, name: str) -> float:
    rate = _number(value)
    if rate is None or not 0 <= rate <= 1:
        raise ValueError(f"{name} must be a probability, from 0 to 1, not {value!r}")
    return rate


def _read_texts(value: object, name: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(x, str) for x in texts):
        raise ValueError(f"{name} must be a string or a list of strings, not {value!r}")
    return tuple(texts)


def _number(value: object) -> float | None:
    """Return a finite number; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


READ: Mapping[str, Callable[[object, str], Any]] = {
    "delay_seconds": _read_delay,
    "error_rate": _read_rate,
    "error_text": _read_texts,
}
