"""Hypothesis strategies of JSON: what a store keeps, and what a trainer may send."""

import json
from typing import Any

from hypothesis import strategies as st

TEXT = st.text(max_size=8)
"""Any characters that UTF-8 has, so no lone surrogates."""

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)

VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1, 1.0 and True are three."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


class NoJSON:
    """A value that JSON has no form for. Its name in a test's id is the same in every process."""

    def __repr__(self) -> str:
        return "NoJSON()"
