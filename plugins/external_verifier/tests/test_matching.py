"""Which calls meet which requirements: compared with what trying everything finds."""

from collections.abc import Sequence
from functools import cache

import pytest
from gym_env_external_verifier.matching import assign, longest_in_order
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("candidates", "wanted", "got"),
    [
        ([], [], []),
        ([[]], [1], [0]),
        ([[0]], [1], [1]),
        ([[0], [0]], [1, 1], [1, 0]),  # one call is not two
        ([[0, 1], [0]], [1, 1], [1, 1]),  # whichever is looked at first
        ([[0], [0, 1]], [1, 1], [1, 1]),
        ([[0, 1], [1, 2], [0]], [1, 1, 1], [1, 1, 1]),
        ([[0, 1, 2]], [2], [2]),
        ([[0]], [3], [1]),
        ([[0, 1, 2], [0]], [3, 1], [3, 0]),  # the first goes first
        ([[0], [0, 1, 2]], [1, 3], [1, 2]),
    ],
)
def test_each_call_meets_one_requirement(
    candidates: list[list[int]], wanted: list[int], got: list[int]
) -> None:
    assert assign(candidates, wanted) == got


def possible(candidates: Sequence[Sequence[int]], wanted: tuple[int, ...]) -> bool:
    """Whether all that is wanted can be given at once, by trying everything."""
    units = [index for index, count in enumerate(wanted) for _ in range(count)]

    def place(rest: list[int], taken: frozenset[int]) -> bool:
        if not rest:
            return True
        return any(
            place(rest[1:], taken | {call}) for call in candidates[rest[0]] if call not in taken
        )

    return place(units, frozenset())


PROBLEMS = st.integers(1, 4).flatmap(
    lambda size: st.tuples(
        st.lists(
            st.lists(st.integers(0, 4), unique=True, max_size=5), min_size=size, max_size=size
        ),
        st.lists(st.integers(1, 2), min_size=size, max_size=size),
    )
)


@settings(deadline=None)
@given(PROBLEMS)
def test_the_earlier_requirement_gets_all_that_it_can(
    problem: tuple[list[list[int]], list[int]],
) -> None:
    candidates, wanted = problem
    best: tuple[int, ...] = ()
    for count in wanted:
        best += (max(n for n in range(count + 1) if possible(candidates, (*best, n))),)
    assert tuple(assign(candidates, wanted)) == best


@settings(deadline=None)
@given(st.lists(st.integers(0, 31), max_size=7))
def test_the_longest_part_in_order_is_found(met: list[int]) -> None:
    @cache
    def longest(call: int, step: int) -> int:
        if call == len(met) or step == 5:
            return 0
        taken = 1 + longest(call + 1, step + 1) if met[call] >> step & 1 else 0
        return max(taken, longest(call + 1, step), longest(call, step + 1))

    assert longest_in_order(met, 5) == longest(0, 0)


def test_the_worst_case_is_bounded() -> None:
    # all but the last want the same few calls, of very many: each search fails late
    everything = range(10_000)
    assert assign([everything] * 200, [1] * 200) == [1] * 200
    few = range(100)
    assert sum(assign([few] * 200, [1] * 200)) == 100
    # a chain: the last requirement moves every other one along
    chain = [[index, index + 1] for index in range(199)]
    assert assign([*chain, [0]], [1] * 200) == [1] * 200
    assert longest_in_order([(1 << 200) - 1] * 10_000, 200) == 200
