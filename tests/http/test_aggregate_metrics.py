"""POST /envs/<name>/aggregate_metrics: the environment's statistics over verify's answers."""

from collections.abc import Generator, Sequence
from typing import Any

import anyio
import pytest
from pass_at_k import Riddle

from gymhost import (
    AggregateMetrics,
    Environment,
    EnvironmentConfig,
    Limits,
    Session,
    Task,
    Trajectory,
    hookimpl,
)
from gymhost.client import ApiError, Client
from gymhost.testing import client

ROWS = [
    {"_ng_task_index": 0, "_ng_rollout_index": 0, "reward": 0},
    {"_ng_task_index": 0, "_ng_rollout_index": 1, "reward": 1},
    {"_ng_task_index": 1, "_ng_rollout_index": 0, "reward": 0},
]


class Plain(Environment):
    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float(trajectory.final_text)


class Broken(Plain):
    def __init__(self, returns: Any = None) -> None:
        self.returns = returns

    async def aggregate_metrics(self, results: Sequence[dict[str, Any]]) -> AggregateMetrics:
        if isinstance(self.returns, BaseException):
            raise self.returns
        if self.returns == "hangs":
            await anyio.sleep_forever()
        return self.returns


async def post(api: Client, name: str, body: Any) -> Any:
    return await api.request("POST", f"/envs/{name}/aggregate_metrics", body)


async def test_the_answers_of_verify_are_aggregated() -> None:
    async with client({"plain": Plain}) as api:
        rows = []
        for index, answer in enumerate(("0.5", "1", "0")):
            async with api.episode("plain", Task()) as episode:
                rows.append({**await episode.verify(answer), "_ng_task_index": index // 2})
        metrics = await post(api, "plain", {"verify_responses": rows})
    assert metrics["key_metrics"] == {"mean/reward": 0.5}
    assert metrics["agent_metrics"]["max/reward"] == 1.0
    assert [group["mean/reward"] for group in metrics["group_level_metrics"]] == [0.75, 0.0]


async def test_an_environment_adds_and_chooses() -> None:
    masked = {"_ng_task_index": 1, "reward": 1, "mask_sample": True}
    async with client({"riddle": Riddle}) as api:
        metrics = await post(api, "riddle", {"verify_responses": [*ROWS, masked]})
        nothing = await post(api, "riddle", {"verify_responses": []})
    assert metrics["key_metrics"] == {"pass": 0.5}
    assert metrics["agent_metrics"]["pass"] == 0.5
    assert metrics["agent_metrics"]["mean/reward"] == pytest.approx(1 / 3)
    assert nothing == {"group_level_metrics": [], "agent_metrics": {}, "key_metrics": {}}


async def test_an_extension_wraps_it() -> None:
    class Renamed:
        @hookimpl(wrapper=True)
        def aggregate_metrics(
            self, environment: str, results: Sequence[Any]
        ) -> Generator[None, AggregateMetrics, AggregateMetrics]:
            metrics = yield
            metrics.key_metrics = {f"{environment}/rows": len(results)}
            return metrics

    async with client({"plain": Plain}, extensions=[Renamed()]) as api:
        metrics = await post(api, "plain", {"verify_responses": ROWS})
    assert metrics["key_metrics"] == {"plain/rows": 3}


@pytest.mark.parametrize(
    "returns",
    [
        None,
        {"key_metrics": {}},
        AggregateMetrics(agent_metrics={"x": float("nan")}),
        ValueError("secret"),
        SystemExit(3),
    ],
    ids=repr,
)
async def test_a_hook_that_fails_is_an_environment_error(returns: Any) -> None:
    async with client({"broken": Broken(returns)}) as api:
        with pytest.raises(ApiError) as caught:
            await post(api, "broken", {"verify_responses": ROWS})
        counts = (await api.environment("broken"))["counts"]
    assert (caught.value.status, caught.value.failure_kind) == (502, "environment_error")
    assert caught.value.problem["mask_sample"] is True
    assert "secret" not in str(caught.value.problem)
    assert counts == {"environment_error": 1, "aggregate_metrics_failed": 1}


async def test_a_hook_has_as_long_as_verify() -> None:
    config = EnvironmentConfig(Broken("hangs"), limits=Limits(verify_seconds=0.05))
    async with client({"broken": config}) as api:
        with anyio.fail_after(5), pytest.raises(ApiError) as caught:
            await post(api, "broken", {"verify_responses": []})
    assert (caught.value.status, caught.value.failure_kind) == (504, "environment_timeout")


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"verify_responses": {}}, 422), ({"verify_responses": [1]}, 422)],
)
async def test_a_malformed_body_is_the_clients_error(body: Any, status: int) -> None:
    async with client({"plain": Plain}) as api:
        with pytest.raises(ApiError) as caught:
            await post(api, "plain", body)
    assert caught.value.status == status
    assert "verify_responses" in str(caught.value)


async def test_it_needs_the_control_key_and_a_post() -> None:
    async with client({"plain": Plain}) as api:
        with pytest.raises(ApiError) as caught:
            await api.request("GET", "/envs/plain/aggregate_metrics")
        assert caught.value.status == 405
        stranger = Client("http://gymhost.test", "wrong", transport=api._transport)
        async with stranger:
            with pytest.raises(ApiError) as caught:
                await post(stranger, "plain", {"verify_responses": ROWS})
        assert caught.value.status == 401
