"""An environment that goes past its limits, and one beside it that must not notice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from gymhost import Environment
from gymhost.config import EnvironmentConfig
from gymhost.limits import Limits
from tests.environments import Diary
from tests.served import HandClock, Served, serve

__all__ = ["check_neighbour", "greedy", "page"]


async def page(served: Served, name: str = "greedy") -> dict[str, Any]:
    """What GET /envs/<name> answers."""
    found: dict[str, Any] = (await served.http.get(f"/envs/{name}")).json()
    return found


async def check_neighbour(served: Served) -> None:
    """The environment beside it works, and has reached no limit."""
    session = await served.seed("beside")
    assert (await served.call(session, "write", note="a")).text == "a"
    assert (await served.verify(session)).json()["reward"] == 1.0
    beside = await page(served, "beside")
    assert (beside["status"], beside["limits_hit"]) == ("up", {})
    assert beside["counts"] == {"calls": 1, "seeded": 1, "verified": 1}


@asynccontextmanager
async def greedy(
    environment: Environment[Any], *, clock: HandClock | None = None, **limits: Any
) -> AsyncGenerator[Served]:
    """An environment with limits, and one beside it that must not notice."""
    config = EnvironmentConfig(plugin=environment, limits=Limits(**limits))
    with anyio.fail_after(20):
        async with serve({"greedy": config, "beside": Diary()}, clock=clock) as served:
            yield served
            await check_neighbour(served)
