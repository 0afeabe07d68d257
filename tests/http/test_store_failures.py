"""A store in a file that fails under a server: what trainers, agents and probes are told."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import get_args

from gymhost.errors import StoreReason
from gymhost.http.problems import STORE_FAILURES
from tests.environments import Diary
from tests.served import HandClock, serve
from tests.stores.files import OpenStore


async def test_a_locked_store_is_told_and_when_it_is_free_all_goes_on(tmp_path: Path) -> None:
    path, clock = tmp_path / "sessions.db", HandClock()
    async with serve({"diary": Diary()}, store=OpenStore(path), clock=clock) as served:
        session = await served.seed("diary")
        ready = await served.http.get("/readyz")
        assert (ready.status_code, ready.json()["store"]) == (200, "ok")

        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        clock.now += 1
        ready = await served.http.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            503,
            {"status": "store failed", "degraded": 0, "failed": 0, "store": "locked"},
        )
        problem = (await served.post("diary", "seed_session", {})).json()
        assert (problem["status"], problem["failure_kind"]) == (503, "store_error")
        assert "The session store is locked by another program." in problem["detail"]
        assert str(tmp_path) not in str(problem)
        outcome = await served.call(session, "write", note="lost")
        assert outcome.is_error
        assert "lock" not in outcome.text
        assert str(tmp_path) not in outcome.text

        other.close()
        clock.now += 1
        ready = await served.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        fresh = await served.seed("diary")
        assert not (await served.call(fresh, "write", note="kept")).is_error
        assert (await served.verify(fresh)).status_code == 200


def test_each_reason_has_a_sentence() -> None:
    assert set(STORE_FAILURES) == set(get_args(StoreReason))
