from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from gymhost import AggregateMetrics, Environment, Session, Trajectory


class Riddle(Environment):
    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float("a river" in trajectory.final_text.lower())

    async def aggregate_metrics(self, results: Sequence[dict[str, Any]]) -> AggregateMetrics:
        metrics = await super().aggregate_metrics(results)
        solved: dict[int, bool] = defaultdict(bool)
        for result in results:
            if not result.get("mask_sample"):
                solved[result.get("_ng_task_index", 0)] |= result["reward"] == 1
        if solved:
            metrics.agent_metrics["pass"] = sum(solved.values()) / len(solved)
            metrics.key_metrics = {"pass": metrics.agent_metrics["pass"]}
        return metrics
