"""Which calls meet which requirements, where one call may meet just one of them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["assign", "longest_in_order"]


def assign(candidates: Sequence[Sequence[int]], wanted: Sequence[int]) -> list[int]:
    """Return how many calls each requirement gets, of the `wanted` that it needs.

    `candidates` are the calls that meet each one. Earlier requirements go first: what they can
    have at all they get, and later ones as much as that leaves. No order in which the calls are
    looked at changes this: each call is found by an augmenting path (Kuhn's algorithm).
    """
    total = sum(wanted)
    owners: dict[int, int] = {}

    def augment(requirement: int, seen: set[int]) -> bool:
        seen.add(requirement)
        # With as many candidates as there are calls to give out, one is always left: the others
        # need not be looked at.
        calls = candidates[requirement][:total]
        for call in calls:
            if call not in owners:
                owners[call] = requirement
                return True
        for call in calls:
            if owners[call] not in seen and augment(owners[call], seen):
                owners[call] = requirement
                return True
        return False

    # all() stops at the first that fails: the next would, too
    for requirement, count in enumerate(wanted):
        all(augment(requirement, set()) for _ in range(count))
    got = [0] * len(wanted)
    for requirement in owners.values():
        got[requirement] += 1
    return got


def longest_in_order(met: Sequence[int], length: int) -> int:
    """Return how many of `length` steps the calls take in the steps' order, each call one step.

    Each call has the steps that it can be as bits, the first step as the lowest bit. This is the
    longest common subsequence, by the bit-parallel recurrence of Hyyrö (2004).
    """
    full = (1 << length) - 1
    row = full
    for steps in met:
        hits = row & steps
        row = ((row + hits) | (row - hits)) & full
    return length - row.bit_count()
