"""Clients that leave: while their call waits, while it runs, during verify."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.e2e.gates import Gate
from tests.e2e.raw import connect, head, request
from tests.e2e.servers import Server, call_tool, seed
from tests.http.wire import VERSIONS, call


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


def until(ask: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as wanted; the test's timeout ends it."""
    while not wanted(answer := ask()):
        pass
    return answer


def use(http: httpx2.Client) -> dict[str, int]:
    """What the environment is busy with."""
    used: dict[str, int] = http.get("/envs/gated").json()["use"]
    return used


def record(http: httpx2.Client, session_id: str) -> dict[str, Any]:
    """What the server knows of a session."""
    known: dict[str, Any] = http.get(f"/sessions/{session_id}").json()
    return known


@pytest.mark.parametrize("version", VERSIONS)
def test_a_queued_call_whose_client_has_left_never_starts(
    server: Server, http: httpx2.Client, gate: Gate, version: str
) -> None:
    session_id, token = seed(http)
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(call_tool, http, token, "hold", port=gate.port, text="first")
        first = gate.wait()
        with connect(server) as agent:
            queued = call(version, "hold", token, port=gate.port, text="second")
            agent.sendall(request("/envs/gated/mcp", queued))
            until(lambda: use(http)["calls_in_flight"], lambda count: count == 2)
        until(lambda: use(http)["calls_in_flight"], lambda count: count == 1)
        first.release()
        calling.result()
    call_tool(http, token, "say", text="third")
    calls = record(http, session_id)["calls"]
    assert [each["arguments"].get("text") for each in calls] == ["first", "third"]


# hypercorn reads no further while it answers the first, and learns of it only then
@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
def test_a_client_that_leaves_with_a_request_behind_its_call_has_left_both(
    server: Server, http: httpx2.Client, gate: Gate
) -> None:
    session_id, token = seed(http)
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(call_tool, http, token, "hold", port=gate.port)
        first = gate.wait()
        with connect(server) as agent:
            queued, behind = (call(VERSIONS[-1], "say", token, text=text) for text in "ab")
            agent.sendall(request("/envs/gated/mcp", queued) + request("/envs/gated/mcp", behind))
            until(lambda: use(http)["calls_in_flight"], lambda count: count == 2)
        until(lambda: use(http)["calls_in_flight"], lambda count: count == 1)
        first.release()
        calling.result()
    assert len(record(http, session_id)["calls"]) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_call_whose_client_has_left_runs_on_and_is_recorded(
    server: Server, http: httpx2.Client, gate: Gate, version: str
) -> None:
    session_id, token = seed(http)
    with connect(server) as agent:
        agent.sendall(request("/envs/gated/mcp", call(version, "hold", token, port=gate.port)))
        running = gate.wait()
    assert record(http, session_id)["calls"] == []
    running.release()
    (recorded,) = until(lambda: record(http, session_id)["calls"], bool)
    assert recorded["result"] == "held"
    assert recorded["kind"] == "ok"
    assert recorded["started_at"]
    assert recorded["duration"] > 0


def test_a_verify_whose_client_has_left_runs_on_and_its_score_is_kept(
    server: Server, http: httpx2.Client, gate: Gate
) -> None:
    session_id, _ = seed(http, verify=gate.port)
    body = b'{"session_id": "%s", "mark": 7}' % session_id.encode()
    with connect(server) as trainer:
        length = f"content-length: {len(body)}"
        trainer.sendall(head(server, "POST", "/envs/gated/verify", length) + body)
        running = gate.wait()
    running.release()
    until(lambda: record(http, session_id)["status"], lambda status: status == "verified")
    again = http.post("/envs/gated/verify", content=body)
    assert again.status_code == 200
    assert again.json() == {"session_id": session_id, "mark": 7, "reward": 0.0}
    other = http.post("/envs/gated/verify", content=body.replace(b": 7", b": 8"))
    assert other.status_code == 409


def test_the_same_verify_from_a_second_client_joins_the_first(
    server: Server, http: httpx2.Client, gate: Gate
) -> None:
    session_id, _ = seed(http, verify=gate.port)
    body = b'{"session_id": "%s"}' % session_id.encode()
    with ThreadPoolExecutor() as threads:
        with connect(server) as trainer:
            length = f"content-length: {len(body)}"
            trainer.sendall(head(server, "POST", "/envs/gated/verify", length) + body)
            running = gate.wait()
        joined = threads.submit(http.post, "/envs/gated/verify", content=body)
        running.release()
        assert joined.result().json()["reward"] == 0.0


def test_a_seed_whose_client_has_left_leaves_a_session_that_can_be_fetched_by_its_key(
    server: Server, http: httpx2.Client, gate: Gate
) -> None:
    body = b'{"verifier_metadata": {"seed": %d}}' % gate.port
    key = "idempotency-key: left-during-seed"
    with connect(server) as trainer:
        length = f"content-length: {len(body)}"
        trainer.sendall(head(server, "POST", "/envs/gated/seed_session", length, key) + body)
        running = gate.wait()
    running.release()
    headers = {"idempotency-key": "left-during-seed"}
    again = http.post("/envs/gated/seed_session", content=body, headers=headers)
    assert again.status_code == 200


def test_half_a_request_is_forgotten(server: Server, http: httpx2.Client) -> None:
    logged = server.log
    with connect(server) as client:
        client.sendall(head(server, "POST", "/envs/gated/seed_session", "content-length: 9")[:-9])
    with connect(server) as client:
        waits = ("content-length: 9", "expect: 100-continue")
        client.sendall(head(server, "POST", "/envs/gated/seed_session", *waits) + b"{")
        assert client.recv(9) == b"HTTP/1.1 "
    assert call_tool(http, seed(http)[1], "say", text="well")["content"][0]["text"] == "well"
    assert server.log == logged
