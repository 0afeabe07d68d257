"""Limits are positive numbers."""

import math
from dataclasses import fields
from typing import Any

import pytest

from gymhost import Limits


def test_the_defaults_are_those_of_the_design() -> None:
    limits = Limits()
    assert (limits.open_sessions, limits.calls_in_flight, limits.session_queue) == (10_000, 256, 16)
    assert (limits.threads, limits.stuck_threads) == (16, 4)
    assert (limits.tool_seconds, limits.seed_seconds) == (60, 60)
    assert (limits.verify_seconds, limits.close_seconds, limits.startup_seconds) == (300, 10, 30)
    assert (limits.body_bytes, limits.mcp_body_bytes) == (64 * 2**20, 4 * 2**20)
    assert (limits.session_calls, limits.result_bytes) == (1_000, 2**20)
    assert (limits.idle_seconds, limits.total_seconds) == (3_600, 86_400)
    assert (limits.unused_seconds, limits.retention_seconds) == (600, 86_400)


@pytest.mark.parametrize("value", [0, -1, math.nan, True, "5", None])
def test_what_is_no_positive_number_is_refused_by_name(value: Any) -> None:
    for field in fields(Limits):
        with pytest.raises(ValueError, match=rf"limit '{field.name}' must be a positive number"):
            Limits(**{field.name: value})


def test_a_limit_may_be_none_at_all() -> None:
    assert Limits(tool_seconds=math.inf).tool_seconds == math.inf
