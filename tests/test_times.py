"""Times of RFC 3339, written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymhost.times import parse_rfc3339, rfc3339


@given(st.integers(0, 253_402_300_799_000_000).map(lambda micro: micro / 1_000_000))
def test_what_is_written_is_read_again_to_the_microsecond(seconds: float) -> None:
    assert parse_rfc3339(rfc3339(seconds)) == pytest.approx(seconds, abs=1e-4)


@given(st.text("0123456789-+:TZtz. ", max_size=30))
def test_anything_else_is_refused_as_no_time(text: str) -> None:
    try:
        parse_rfc3339(text)
    except ValueError:
        return
    assert text[10] in "Tt "


def test_a_time_needs_its_offset() -> None:
    assert parse_rfc3339("1970-01-01T01:00:00+01:00") == 0.0
    with pytest.raises(ValueError, match="no time of RFC 3339"):
        parse_rfc3339("1970-01-01T01:00:00")
