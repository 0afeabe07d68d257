"""Statistics over many verdicts: of each task's attempts, and of all of them.

The shape is that of NeMo Gym's `/aggregate_metrics`: rows are verify's answers, tasks are told
apart by `_ng_task_index`, and each numeric field gets five keys, such as `mean/reward`.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field

from gymhost.errors import InvalidField
from gymhost.models import JSONObject, finite_json, json_type

__all__ = ["AggregateMetrics", "aggregate", "is_masked", "read_results"]

TASK_INDEX = "_ng_task_index"
# an index, a mark of who ran it, a mark of a failure: no measurements
NO_MEASUREMENT = ("_ng_", "mask_sample")


class AggregateMetrics(BaseModel):
    """What many verdicts come to. Values are finite JSON."""

    model_config = ConfigDict(extra="forbid")

    group_level_metrics: list[JSONObject] = Field(default_factory=list)
    """For each task, in the order of their indices: `_ng_task_index` and its statistics."""
    agent_metrics: JSONObject = Field(default_factory=dict)
    """The statistics of all samples: `mean`, `max`, `min`, `median` and `std` of each field."""
    key_metrics: JSONObject = Field(default_factory=dict)
    """Those to look at first."""

    def dump(self) -> bytes:
        """Return them as JSON.

        Raises: ValueError: what was added is not finite JSON.
        """
        plain = pydantic_core.to_jsonable_python(self.model_dump(warnings=False))
        return finite_json(AggregateMetrics.model_validate(plain).model_dump()).encode()


def read_results(value: Any) -> list[JSONObject]:
    """Return a request's `verify_responses`.

    Raises: InvalidField: they are no list of objects, or an index of a task is no integer.
    """
    if not isinstance(value, list):
        raise InvalidField(f"'verify_responses' must be an array, not {json_type(value)}.")
    for place, result in enumerate(value):
        where = f"verify_responses[{place}]"
        if not isinstance(result, dict):
            raise InvalidField(f"{where} must be an object, not {json_type(result)}.")
        index = result.get(TASK_INDEX)
        if index is not None and type(index) is not int:
            raise InvalidField(f"{where}.{TASK_INDEX} must be an integer, not {json_type(index)}.")
    return value


def aggregate(results: Iterable[Mapping[str, Any]]) -> AggregateMetrics:
    """Return the standard statistics of verify's answers, without the masked ones.

    Each number at the top of an answer, and of its `usage`, is a field; booleans are 0 and 1.
    `std` is that of a sample, 0 for a single value. A masked answer (see `is_masked`) has no
    reward, so it is left out of every field; where there are any, `masked_samples` is their number.
    """
    everything: dict[str, list[float]] = defaultdict(list)
    tasks: dict[int, dict[str, list[float]]] = {}
    masked = 0
    for result in results:
        task = tasks.setdefault(result.get(TASK_INDEX) or 0, defaultdict(list))
        if is_masked(result):
            masked += 1
            continue
        for field, value in _measurements(result).items():
            everything[field].append(value)
            task[field].append(value)
    agent_metrics = _describe(everything)
    means = {key: value for key, value in agent_metrics.items() if key.startswith("mean/")}
    if masked:
        agent_metrics["masked_samples"] = masked
    groups = [{TASK_INDEX: index, **_describe(tasks[index])} for index in sorted(tasks)]
    return AggregateMetrics(
        group_level_metrics=groups, agent_metrics=agent_metrics, key_metrics=means
    )


def is_masked(result: Mapping[str, Any]) -> bool:
    """Whether an answer is no measurement: it says so, or names a failure and does not deny it.

    An environment may name a `failure_kind` beside `mask_sample: false`: that score is valid.
    """
    mask = result.get("mask_sample")
    return result.get("failure_kind") is not None if mask is None else bool(mask)


def _measurements(result: Mapping[str, Any]) -> dict[str, float]:
    response = result.get("response")
    sources = [response.get("usage") if isinstance(response, dict) else None]
    sources += [result.get("usage"), result]  # the answer's own fields win
    found: dict[str, float] = {}
    for source in sources:
        for field, value in source.items() if isinstance(source, Mapping) else ():
            if isinstance(value, int | float) and not field.startswith(NO_MEASUREMENT):
                number = int(value) if isinstance(value, bool) else value
                if _fits_a_float(number):
                    found[field] = number
    return found


def _fits_a_float(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:  # JSON's integers have no end
        return False


def _describe(fields: Mapping[str, Sequence[float]]) -> JSONObject:
    described: JSONObject = {}
    for field, values in fields.items():
        mean = _mean(values)
        described[f"mean/{field}"] = mean
        described[f"max/{field}"] = max(values)
        described[f"min/{field}"] = min(values)
        described[f"median/{field}"] = _median(values)
        deviation = _deviation(values, mean)
        if deviation is not None:
            described[f"std/{field}"] = deviation
    return described


# A sum or a square of large numbers may be more than a float holds. The exact fractions of
# `statistics` have no end, and take twenty times as long.


def _mean(values: Sequence[float]) -> float:
    try:
        mean = statistics.fmean(values)
    except OverflowError:
        mean = float(statistics.mean(values))
    return min(max(mean, min(values)), max(values))  # fmean rounds: 0.1, three times, is over 0.1


def _median(values: Sequence[float]) -> float:
    low, high = statistics.median_low(values), statistics.median_high(values)
    return low if low == high else low / 2 + high / 2


def _deviation(values: Sequence[float], mean: float) -> float | None:
    """Return the sample's standard deviation, 0 for one value; None where no float can hold it."""
    if len(values) == 1:
        return 0.0
    try:
        squares = math.fsum((value - mean) ** 2 for value in values)
        if math.isfinite(squares):
            return math.sqrt(squares / (len(values) - 1))
    except OverflowError:
        pass
    try:
        return float(statistics.stdev(values))
    except OverflowError:
        return None
