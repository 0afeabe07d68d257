"""Score a trajectory by what its task requires."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import fsum

from gym_env_external_verifier.matching import assign, longest_in_order
from gym_env_external_verifier.requirements import RequiredCall, Requirements, names_of
from gymhost import Trajectory, VerifyResult
from gymhost.trajectory import TrajectoryCall

__all__ = ["score"]

Named = defaultdict[str, list[tuple[int, TrajectoryCall]]]

MOST_CALLS = 10_000
"""A trajectory with more calls scores 0: an agent must not decide how long scoring takes."""


def score(required: Requirements, trajectory: Trajectory) -> VerifyResult:
    """Return the reward and its components, each from 0 to 1."""
    components = dict.fromkeys(required.components, 0.0)
    calls = trajectory.tool_calls
    if len(calls) <= MOST_CALLS:
        named = _by_name(calls)
        components.update(_score_calls(required, named, len(calls)))
        if required.answer is not None:
            components["answer"] = required.answer.share(trajectory.final_text)
        # Only now, and only beside something achieved: doing nothing must score 0.
        if required.forbidden and any(components.values()):
            components["forbidden"] = float(
                all(
                    sum(each.fits(call) for _, call in named[each.name]) <= each.at_most
                    for each in required.forbidden
                )
            )
    return VerifyResult(reward=_reward(required, components), reward_components=components)


def _reward(required: Requirements, components: dict[str, float]) -> float:
    if not required.partial_credit:
        return float(all(share == 1 for share in components.values()))
    weights = [required.weight(name) for name in components]
    shares = [weight * components[name] for name, weight in zip(components, weights, strict=True)]
    return fsum(shares) / fsum(weights)


def _by_name(calls: Sequence[TrajectoryCall]) -> Named:
    """Return each name's calls, with their places in the trajectory."""
    named: Named = defaultdict(list)
    for place, call in enumerate(calls):
        for name in names_of(call):
            named[name].append((place, call))
    return named


def _score_calls(required: Requirements, named: Named, count: int) -> dict[str, float]:
    meeting: list[list[int]] = []
    within: list[bool] = []
    for each in required.calls:
        fitting = [(place, call) for place, call in named[each.name] if each.fits(call)]
        within.append(each.at_most is None or len(fitting) <= each.at_most)
        meeting.append([place for place, call in fitting if each.is_met_by(call)])
    components = _shares(required, meeting, within)
    if "order" in required.components:
        components["order"] = _order(required.calls, meeting, count)
    return components


def _shares(
    required: Requirements, meeting: Sequence[Sequence[int]], within: Sequence[bool]
) -> dict[str, float]:
    """Return each required call's share, so that their weighted sum is the largest possible."""

    def worth(index: int) -> float:
        """Return what one call is worth here; the calls go where they are worth most."""
        return required.weight(f"calls.{index}") / required.calls[index].at_least

    # one that was called too often gets nothing, and takes nothing from the others
    best_first = sorted((i for i, kept in enumerate(within) if kept), key=worth, reverse=True)
    wanted = [required.calls[index].at_least for index in best_first]
    got = assign([meeting[index] for index in best_first], wanted)
    shares = dict.fromkeys((f"calls.{index}" for index in range(len(within))), 0.0)
    for index, needed, count in zip(best_first, wanted, got, strict=True):
        shares[f"calls.{index}"] = count / needed
    return shares


def _order(required: Sequence[RequiredCall], meeting: Sequence[Sequence[int]], count: int) -> float:
    met = [0] * count
    length = 0
    for each, indices in zip(required, meeting, strict=True):
        steps = ((1 << each.at_least) - 1) << length
        length += each.at_least
        for index in indices:
            met[index] |= steps
    return longest_in_order(met, length) / length
