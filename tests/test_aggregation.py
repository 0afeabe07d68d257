"""Statistics over many verdicts, and the rows they are made of."""

import json
import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymhost.aggregation import AggregateMetrics, aggregate, read_results
from gymhost.errors import InvalidField


def row(task: int, attempt: int, **fields: Any) -> dict[str, Any]:
    return {"_ng_task_index": task, "_ng_rollout_index": attempt, **fields}


ROWS = [
    row(1, 0, reward=0.0, found=True, answer="Rome", response={"usage": {"total_tokens": 10}}),
    row(1, 1, reward=1.0, found=False, response={"usage": {"total_tokens": 30, "details": {}}}),
    row(0, 0, reward=0.25, found=True, nothing=None),
]


def test_each_numeric_field_gets_five_keys_over_all_samples() -> None:
    assert aggregate(ROWS).agent_metrics == {
        "mean/total_tokens": 20.0,
        "max/total_tokens": 30,
        "min/total_tokens": 10,
        "median/total_tokens": 20.0,
        "std/total_tokens": pytest.approx(math.sqrt(200)),
        "mean/reward": pytest.approx(1.25 / 3),
        "max/reward": 1.0,
        "min/reward": 0.0,
        "median/reward": 0.25,
        "std/reward": pytest.approx(statistics.stdev([0.0, 1.0, 0.25])),
        "mean/found": pytest.approx(2 / 3),
        "max/found": 1,
        "min/found": 0,
        "median/found": 1,
        "std/found": pytest.approx(statistics.stdev([1, 0, 1])),
    }


def test_a_task_has_the_statistics_of_its_attempts_in_the_order_of_the_indices() -> None:
    first, second = aggregate(ROWS).group_level_metrics
    assert first["_ng_task_index"] == 0
    assert (first["mean/reward"], first["std/reward"]) == (0.25, 0.0)
    assert "mean/total_tokens" not in first
    assert second["_ng_task_index"] == 1
    assert (second["mean/reward"], second["median/found"]) == (0.5, 0.5)
    assert second["std/reward"] == pytest.approx(math.sqrt(0.5))


def test_the_key_metrics_are_the_means() -> None:
    metrics = aggregate(ROWS)
    assert metrics.key_metrics == {
        key: metrics.agent_metrics[key]
        for key in ("mean/total_tokens", "mean/reward", "mean/found")
    }


def test_a_masked_sample_is_no_measurement_and_is_counted() -> None:
    crashed = row(1, 2, reward=0.0, mask_sample=True, failure_kind="environment_error")
    problem = row(2, 0, status=502, mask_sample=True)
    metrics = aggregate([*ROWS, crashed, problem])
    assert metrics.agent_metrics.pop("masked_samples") == 2
    assert metrics.agent_metrics == aggregate(ROWS).agent_metrics
    assert metrics.key_metrics == aggregate(ROWS).key_metrics
    assert metrics.group_level_metrics == [
        *aggregate(ROWS).group_level_metrics,
        {"_ng_task_index": 2},
    ]


@pytest.mark.parametrize(
    "marks",
    [
        {"mask_sample": 1},
        {"mask_sample": "true"},
        {"failure_kind": "environment_error"},
        {"mask_sample": None, "failure_kind": "environment_error"},
    ],
)
def test_a_sample_that_was_spoiled_is_masked_however_the_row_says_so(marks: dict[str, Any]) -> None:
    metrics = aggregate([row(0, 0, reward=0.0, **marks), row(0, 1, reward=1.0)])
    assert metrics.key_metrics == {"mean/reward": 1.0}
    assert metrics.agent_metrics["masked_samples"] == 1


def test_a_valid_score_may_name_a_failure() -> None:
    valid = row(0, 0, reward=0.5, mask_sample=False, failure_kind="judge_retried")
    assert aggregate([valid]).key_metrics == {"mean/reward": 0.5}


def test_an_unmasked_answer_says_so_without_a_statistic() -> None:
    assert aggregate([row(0, 0, reward=1, mask_sample=False)]).key_metrics == {"mean/reward": 1}


def test_no_answers_have_no_statistics() -> None:
    assert aggregate([]) == AggregateMetrics()


def test_an_answer_without_an_index_is_one_of_task_0() -> None:
    metrics = aggregate([{"reward": 1}, row(0, 1, reward=0)])
    assert [group["mean/reward"] for group in metrics.group_level_metrics] == [0.5]


@pytest.mark.parametrize("usage", [{"usage": {"cost": 2}}, {"response": {"usage": {"cost": 2}}}])
def test_usage_is_merged_and_the_answers_own_fields_win(usage: dict[str, Any]) -> None:
    assert aggregate([{"reward": 1, **usage}]).key_metrics == {"mean/reward": 1, "mean/cost": 2}
    assert aggregate([{"cost": 3, **usage}]).key_metrics == {"mean/cost": 3}


@pytest.mark.parametrize("usage", [None, [], "many", 7])
def test_usage_of_another_shape_is_left_out(usage: Any) -> None:
    metrics = aggregate([{"reward": 1, "response": {"usage": usage}}, {"response": [usage]}])
    assert metrics.key_metrics == {"mean/reward": 1}


@pytest.mark.parametrize("value", [10**400, -(10**400), math.nan, math.inf])
def test_a_number_that_no_float_holds_is_left_out(value: float) -> None:
    assert aggregate([{"reward": value}, {"reward": 1}]).key_metrics == {"mean/reward": 1}


def test_numbers_whose_sum_and_square_no_float_holds_have_a_mean() -> None:
    metrics = aggregate([{"x": 1.5e308}, {"x": 1.5e308}, {"x": 1.4e308}]).agent_metrics
    assert metrics["mean/x"] == pytest.approx(statistics.mean([1.5e308, 1.5e308, 1.4e308]))
    assert metrics["std/x"] == pytest.approx(statistics.stdev([1.5e308, 1.5e308, 1.4e308]))


@pytest.mark.parametrize("values", [[1.7e308, -1.7e308], [1.79e308] * 9 + [-1.79e308] * 8])
def test_a_deviation_that_no_float_holds_is_left_out(values: list[float]) -> None:
    metrics = aggregate([{"x": value} for value in values]).agent_metrics
    assert "std/x" not in metrics
    assert math.isfinite(metrics["mean/x"])


JSON_NUMBERS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(JSON_NUMBERS, min_size=1))
def test_the_statistics_of_any_numbers_are_finite_and_in_order(values: list[float]) -> None:
    metrics = aggregate([{"x": value} for value in values])
    found = json.loads(metrics.dump())["agent_metrics"]
    assert found["min/x"] <= found["mean/x"] <= found["max/x"]
    assert found["min/x"] <= found["median/x"] <= found["max/x"]
    assert found.get("std/x", 0) >= 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_the_deviation_is_that_of_a_sample(values: list[float]) -> None:
    found = aggregate([{"x": value} for value in values]).agent_metrics["std/x"]
    assert found == pytest.approx(statistics.stdev(values), abs=1e-6)


INDEX = "verify_responses[0]._ng_task_index"


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (None, "'verify_responses' must be an array, not null."),
        ({"reward": 1}, "'verify_responses' must be an array, not an object."),
        ([{}, 3], "verify_responses[1] must be an object, not a number."),
        ([[]], "verify_responses[0] must be an object, not an array."),
        ([{"_ng_task_index": True}], f"{INDEX} must be an integer, not a boolean."),
        ([{"_ng_task_index": "a"}], f"{INDEX} must be an integer, not a string."),
        ([{"_ng_task_index": 1.5}], f"{INDEX} must be an integer, not a number."),
    ],
)
def test_a_malformed_row_is_named(value: Any, detail: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_results(value)
    assert str(caught.value) == detail


def test_rows_are_taken_as_they_are() -> None:
    rows = [{}, row(0, 0, reward=1), {"_ng_task_index": None}]
    assert read_results(rows) is rows


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1: {object()}}])
def test_what_is_not_finite_json_is_not_dumped(value: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON|serialize"):
        AggregateMetrics(agent_metrics={"mine": value}).dump()


def test_what_was_set_to_another_shape_is_not_dumped() -> None:
    metrics = AggregateMetrics()
    metrics.key_metrics = [1]  # type: ignore[assignment]
    with pytest.raises(ValueError, match="key_metrics"):
        metrics.dump()
