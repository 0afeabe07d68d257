"""The options: what they mean, and what is wrong with the wrong ones."""

import math
import re
from collections import Counter
from random import Random
from statistics import quantiles
from typing import Any

import pytest
from gym_ext_tool_latency import ToolLatency
from gym_ext_tool_latency.faults import Faults


def delays(option: object) -> list[float]:
    """Ten thousand delays, the shortest first."""
    delay, dice = Faults().with_options({"delay_seconds": option}).delay_seconds, Random(0)
    return sorted(delay.draw(dice) for _ in range(10_000))


def test_a_number_is_the_delay_of_every_call() -> None:
    assert set(delays(2)) == {2.0}


def test_in_a_range_all_delays_are_as_likely() -> None:
    drawn = delays([1, 3])
    assert drawn[0] >= 1
    assert drawn[-1] <= 3
    assert quantiles(drawn, n=4) == pytest.approx([1.5, 2, 2.5], rel=0.03)


def test_a_lognormal_delay_has_its_median_and_its_99th_percentile() -> None:
    drawn = delays({"p50": 0.4, "p99": 3})
    assert drawn[5000] == pytest.approx(0.4, rel=0.05)
    assert drawn[9900] == pytest.approx(3, rel=0.1)
    assert drawn[0] > 0
    assert drawn[-1] > 3


@pytest.mark.parametrize("option", [[2, 2], {"p50": 2, "p99": 2}])
def test_a_range_of_one_number_is_that_number(option: object) -> None:
    assert delays(option) == pytest.approx([2.0] * 10_000)


def test_errors_are_as_frequent_as_they_should_be_and_each_text_as_likely() -> None:
    faults = Faults().with_options({"error_rate": 0.4, "error_text": ["503", "timed out"]})
    dice = Random(0)
    drawn = Counter(faults.draw_error(dice) for _ in range(10_000))
    expected = {None: 6000, "503": 2000, "timed out": 2000}
    assert drawn == pytest.approx(expected, rel=0.05)


HOW = "must be 0 or more, [low, high] or {p50, p99}, not "
ORDER = "the first must not exceed the second, nor p50 be 0: "
PROBABILITY = "must be a probability, from 0 to 1, not "
TEXT = "must be a string or a list of strings, not "
DELAYS: list[Any] = [-1, "1", True, None, math.nan, math.inf, [], [1], [1, 2, 3], {}, {"p50": 1}]
DELAYS += [{"mean": 1}, {"p50": 1, "p99": 2, "p100": 3}, 10**400]
RATES: list[Any] = [-0.1, 1.1, 10**400, "0.5", None, math.nan]
IN_TOOL = {"tools": {"look": {"error_rate": True}}}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        *[({"delay_seconds": value}, f"delay_seconds {HOW}{value!r}") for value in DELAYS],
        ({"delay_seconds": [0, "2"]}, f"delay_seconds {HOW}'2'"),
        ({"delay_seconds": [-1, 2]}, f"delay_seconds {HOW}-1"),
        ({"delay_seconds": {"p50": 1, "p99": None}}, f"delay_seconds {HOW}None"),
        ({"delay_seconds": [2, 1]}, f"delay_seconds: {ORDER}[2, 1]"),
        ({"delay_seconds": {"p50": 0, "p99": 1}}, f"delay_seconds: {ORDER}{{'p50': 0, 'p99': 1}}"),
        *[({"error_rate": value}, f"error_rate {PROBABILITY}{value!r}") for value in RATES],
        *[({"error_text": value}, f"error_text {TEXT}{value!r}") for value in ([], [1], 5, None)],
        ({"environments": ["shop"]}, "environments must be a mapping, not ['shop']"),
        ({"environments": {"shop": None}}, "environments.shop must be a mapping, not None"),
        (
            {"environments": {"shop": {"tools": ["look"]}}},
            "environments.shop.tools must be a mapping, not ['look']",
        ),
        (
            {"environments": {"shop": {"tools": {"look": 1}}}},
            "environments.shop.tools.look must be a mapping, not 1",
        ),
        (
            {"environments": {"shop": {"error": 1}}},
            "environments.shop has no option 'error', only delay_seconds, error_rate, error_text",
        ),
        (
            {"environments": {"shop": IN_TOOL}},
            f"environments.shop.tools.look.error_rate {PROBABILITY}True",
        ),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        ToolLatency(**options)
