"""Ask for one city's weather and repeat the report word for word."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Literal

import pydantic_core
from pydantic import BaseModel

from gymhost import Environment, Session, Task, Trajectory, tool

__all__ = ["Weather", "WeatherState"]

DEFAULT_CITY = "Paris"
REPORTS = {"F": "sunny and 72 F.", "C": "sunny and 22 C."}


class WeatherState(BaseModel):
    """What one session's reports look like."""

    unit: Literal["F", "C"] = "F"


class Weather(Environment[WeatherState]):
    """Reward 1.0 where the agent asked for the expected city and repeated the report."""

    def __init__(self, unit: Literal["F", "C"] = "F") -> None:
        """Report temperatures in `unit`, degrees Fahrenheit or Celsius."""
        if unit not in ("F", "C"):
            raise ValueError(f"unit must be 'F' or 'C', not {unit!r}")
        self._unit = unit

    async def seed(self, session: Session[WeatherState], task: Task) -> WeatherState:
        return WeatherState(unit=self._unit)

    @tool
    async def get_weather(self, session: Session[WeatherState], city: str) -> str:
        """Get a deterministic weather report for a city."""
        return report(city, session.state.unit)

    async def verify(self, session: Session[WeatherState], trajectory: Trajectory) -> float:
        expected = str(session.task.verifier_metadata.get("expected_city") or DEFAULT_CITY)
        asked = any(
            call.ok and str(call.arguments.get("city", "")).casefold() == expected.casefold()
            for call in session.calls
            if call.name == "get_weather"
        )
        sentence = report(expected, session.state.unit).casefold()
        return float(asked and sentence in trajectory.assistant_text.casefold())

    def tasks(self) -> Iterator[Task]:
        text = files(__name__).joinpath("tasks.jsonl").read_text("utf-8")
        # the file is in degrees Fahrenheit
        lines = text.replace(REPORTS["F"], REPORTS[self._unit]).splitlines()
        return (Task.from_row(pydantic_core.from_json(line)) for line in lines)


def report(city: str, unit: Literal["F", "C"]) -> str:
    """Return the report of a city. The weather is always fine."""
    return f"The weather in {city} is {REPORTS[unit]}"
