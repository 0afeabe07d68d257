"""What verify may return: one finite number, and finite JSON beside it. All else is no score."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import pytest

from gymhost import VerifyResult
from tests.environments import Diary
from tests.served import NO_ANSWER, serve


class Scalar(float):
    """A number of another library, as numpy's float64 is: a float, and registered as Real."""


class Float32:
    """As numpy's float32: no float, and registered as Real."""

    def __float__(self) -> float:
        return 0.25


Real.register(Float32)


@pytest.mark.parametrize(
    ("returned", "reward"),
    [
        (1, 1.0),
        (0, 0.0),
        (-2.5, -2.5),
        (True, 1.0),
        (False, 0.0),
        (Fraction(1, 4), 0.25),
        (Scalar(0.5), 0.5),
        (Float32(), 0.25),
        (1e308, 1e308),
        (VerifyResult(reward=Float32()), 0.25),
    ],
)
async def test_a_number_is_a_reward(returned: Any, reward: float) -> None:
    diary = Diary()
    diary.reward = returned
    async with serve({"diary": diary}) as served:
        answer = await served.verify(await served.seed("diary"))
        assert answer.status_code == 200
        assert answer.json() == {**NO_ANSWER, "reward": reward}
        assert isinstance(answer.json()["reward"], float)


def unchecked(**values: Any) -> VerifyResult:
    """A result that pydantic has not looked at."""
    return VerifyResult.model_construct(**{"reward": 0.0, "reward_components": {}, **values})


NO_SCORES: dict[str, Callable[[], Any]] = {
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: -math.inf,
    "a string": lambda: "1.0",
    "a list": lambda: [1.0],
    "a dict": lambda: {"reward": 1.0},
    "a decimal": lambda: Decimal(1),
    "a complex number": lambda: 1j,
    "an integer past every float": lambda: 10**400,
    "reward NaN": lambda: unchecked(reward=math.nan),
    "reward None": lambda: unchecked(reward=None),
    "reward a string": lambda: unchecked(reward="1"),
    "a component NaN": lambda: unchecked(reward_components={"style": math.nan}),
    "a component a string": lambda: unchecked(reward_components={"style": "good"}),
    "an extra NaN": lambda: VerifyResult(reward=1, score=math.nan),
    "an extra infinite, deep inside": lambda: VerifyResult(reward=1, a={"b": [{"c": -math.inf}]}),
    "an extra that is not JSON": lambda: VerifyResult(reward=1, what=object()),
    "an extra of bytes": lambda: VerifyResult(reward=1, what=b"\xff"),
    "an extra with half a letter": lambda: VerifyResult(reward=1, what="\ud83d"),
    "a reserved extra": lambda: unchecked(session_id="canary"),
    "a reserved prefix": lambda: unchecked(_ng_task_index=1),
}


@pytest.mark.parametrize("what", NO_SCORES)
async def test_what_is_no_score_is_an_environment_error_and_never_a_reward(what: str) -> None:
    diary = Diary()
    diary.reward = NO_SCORES[what]()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "environment_error")
        assert "reward" not in answer.json()
        assert (await served.record(session))["verdict"] is None
        diary.reward = 0.5
        assert (await served.verify(session)).json()["reward"] == 0.5


async def test_none_is_no_score() -> None:
    class Silent(Diary):
        async def verify(self, session: Any, trajectory: Any) -> Any:
            return None

    async with serve({"silent": Silent()}) as served:
        answer = await served.verify(await served.seed("silent"))
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "environment_error")


@pytest.mark.parametrize("name", ["mask_sample", "failure_kind", "unmasked_reward", "response"])
async def test_a_result_with_a_reserved_extra_can_not_even_be_made(name: str) -> None:
    class Greedy(Diary):
        async def verify(self, session: Any, trajectory: Any) -> Any:
            return VerifyResult(reward=1, **{name: False})

    async with serve({"greedy": Greedy()}) as served:
        answer = await served.verify(await served.seed("greedy"))
        assert answer.status_code == 502
        assert answer.json()["mask_sample"] is True


async def test_components_and_extras_are_in_the_answer_and_in_the_record() -> None:
    diary = Diary()
    diary.reward = VerifyResult(
        reward=0.5,
        reward_components={"style": True, "facts": 0},
        grade="ausreichend",
        raw=[1, None],
    )
    expected = {
        "reward": 0.5,
        "reward_components": {"style": 1.0, "facts": 0.0},
        "grade": "ausreichend",
        "raw": [1, None],
    }
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        assert (await served.verify(session)).json() == {**NO_ANSWER, **expected}
        verdict = (await served.record(session))["verdict"]
        assert {key: verdict[key] for key in expected} == expected
        assert verdict["failure_kind"] is None
