"""A large body of verify is answered as a small one is, though not all of it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gymhost import Environment, Session, Trajectory, VerifyResult, lean_body
from gymhost.lean_body import LARGE
from tests.environments import Diary
from tests.served import Seeded, Served, serve
from tests.test_lean_body import LEFT, TAKEN, nested
from tests.test_trajectories import call, message, output


class Parrot(Environment):
    """Says what it has read: the texts, or everything."""

    stateless = True

    def __init__(self, reads_all: bool = False) -> None:
        self.reads_all = reads_all

    async def verify(self, session: Session, trajectory: Trajectory) -> VerifyResult:
        said, final = trajectory.assistant_text, trajectory.final_text
        if not self.reads_all:
            return VerifyResult(reward=1, said=said, final=final)
        calls = [(each.name, each.output) for each in trajectory.tool_calls]
        return VerifyResult(reward=1, said=said, final=final, items=trajectory.items, calls=calls)


COLLIDING = {
    "an added key": b'{"response": [{"role": "assistant", "content": "a"}], "said": 7, "x": 1e400}',
    "another task": b'{"response": [], "verifier_metadata": {"a": 1}}',
    "the same task": b'{"response": [], "verifier_metadata": {}}',
    "an empty name": b'{"response": [], "session_id": ""}',
    "another session": b'{"response": [], "session_id": "nobody"}',
    "calls": json.dumps({"response": {"output": [call(), output(), message("a")]}}).encode(),
}
BODIES = {**TAKEN, **LEFT, **COLLIDING}


@pytest.mark.parametrize("large", [False, True])
async def test_our_own_server_keeps_the_memory_of_large_bodies(
    large: bool, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("gymhost.http.api.keep_pages", lambda: kept.append(True))
    raw = b'{"response": []}'
    async with serve({"parrot": Parrot()}) as served:
        answer = await served.verify(await served.seed("parrot"), raw.ljust(LARGE * large))
        assert answer.status_code == 200
    assert kept == [True] * (large and stays)


@pytest.mark.parametrize("reads_all", [False, True])
@pytest.mark.parametrize("raw", BODIES.values(), ids=BODIES)
async def test_a_large_body_is_answered_as_if_it_were_parsed_whole(
    raw: bytes, reads_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw.ljust(LARGE)
    async with serve({"parrot": Parrot(reads_all)}) as served:
        answers = []
        for large in (LARGE, LARGE + 1):  # the second parses it
            monkeypatch.setattr(lean_body, "LARGE", large)
            session = await served.seed("parrot")
            for headers in ({}, {"prefer": "return=minimal"}):
                answer = await served.verify(session, raw, **headers)
                answers.append(
                    (answer.status_code, answer.content.replace(session.id.encode(), b"ID"))
                )
            detached = await served.post("parrot", "verify", raw)
            answers.append((detached.status_code, detached.content))
        assert answers[:3] == answers[3:]


async def test_a_trajectory_of_half_a_megabyte_is_scored_and_echoed() -> None:
    body = {"id": 1, "response": {"output": [message(f"Grüße {i}") for i in range(6_000)]}}
    raw = json.dumps(body, ensure_ascii=False).encode()
    async with serve({"parrot": Parrot()}) as served:
        answer = await served.verify(await served.seed("parrot"), raw)
        verdict = answer.json()
        assert answer.content.startswith(raw[:-1] + b',"reward":1.0,')
        assert verdict["said"] == "\n".join(f"Grüße {i}" for i in range(6_000))
        assert verdict["final"] == "Grüße 5999"
        assert not served.mount("parrot").reads_whole


async def test_where_verify_reads_everything_the_next_body_is_parsed_at_once() -> None:
    raw = COLLIDING["calls"].ljust(LARGE)
    async with serve({"parrot": Parrot(reads_all=True), "diary": Diary()}) as served:
        first, second = [
            (await served.verify(await served.seed("parrot"), raw)).json() for _ in range(2)
        ]
        assert first == second
        assert first["calls"] == [["get_weather", "fine"]]
        assert served.mount("parrot").reads_whole
        assert not served.mount("diary").reads_whole


DEEP = (b'{"response": {"output": [{"role": "assistant", "content": "a"}], "x": %b}}'
        % nested(250)).ljust(LARGE)  # fmt: skip


async def send(served: Served, session: Seeded, raw: bytes) -> tuple[int, dict[str, Any]]:
    answer = await served.verify(session, raw, prefer="return=minimal")
    return answer.status_code, answer.json()


async def test_a_body_that_nests_too_deep_is_refused_when_the_environment_reads_on() -> None:
    async with serve({"parrot": Parrot(reads_all=True)}) as served:
        session = await served.seed("parrot")
        status, problem = await send(served, session, DEEP)
        assert (status, problem["failure_kind"]) == (400, "invalid_request")
        assert "recursion limit exceeded" in problem["detail"]
        assert "environment_error" not in served.mount("parrot").counts
        status, verdict = await send(served, session, COLLIDING["calls"].ljust(LARGE))
        assert (status, verdict["said"]) == (200, "a")


async def test_a_body_that_nests_too_deep_is_scored_where_nobody_reads_so_far() -> None:
    async with serve({"parrot": Parrot()}) as served:
        session = await served.seed("parrot")
        answer = await served.verify(session, DEEP)
        assert answer.status_code == 200
        assert answer.content.startswith(DEEP.rstrip()[:-1])


async def test_what_is_kept_or_has_no_session_is_parsed_before_anything_runs() -> None:
    async with serve({"parrot": Parrot()}, keep_trajectories=True) as served:
        session = await served.seed("parrot")
        assert (await send(served, session, DEEP))[0] == 400
        assert (await served.record(session))["status"] == "open"
        raw = COLLIDING["calls"].ljust(LARGE)
        assert (await send(served, session, raw))[0] == 200
        assert (await served.record(session))["trajectory"] == json.loads(raw)["response"]
    async with serve({"parrot": Parrot()}) as served:
        assert (await served.post("parrot", "verify", DEEP)).status_code == 400
