"""How a server stops: what runs is drained or cancelled, hooks run, and the process ends with 0."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from signal import SIGINT, SIGTERM

import httpx2
import pytest

from tests.distributions import install
from tests.e2e.gates import Gate
from tests.e2e.raw import connect, head, read_until, request
from tests.e2e.servers import STACKS, Flags, Server, Servers, call_tool, seed, verify
from tests.http.wire import MODERN, call, post

pytestmark = pytest.mark.measured

QUICK = """
from gated import Gated, note

class Quick(Gated):
    async def startup(self):
        note("quick is up")

    async def shutdown(self):
        note("quick is down")
"""


def messages(server: Server) -> list[str]:
    """What gymhost itself logged, without times and levels."""
    lines = [line.split(": ", 1) for line in server.log.splitlines()]
    return [message for head, message in lines if " gymhost." in head]


@pytest.mark.parametrize(
    ("stack", "number"),
    list(zip(STACKS, (SIGTERM, SIGINT, SIGTERM), strict=True)),
    indirect=["stack"],
)
def test_a_signal_closes_sessions_and_shuts_environments_down(
    servers: Servers, stack: Flags, number: int
) -> None:
    server = servers.start(*stack, "--strict")
    with server.client() as http:
        seed(http)
        scored, _ = seed(http)
        verify(http, scored)
    assert server.stop(number) == 0
    assert servers.life == [
        "startup",
        "verified after 0 calls",
        "close: verified",
        "close: shutdown",
        "shutdown",
    ]
    assert server.lines[-1] == "stopped"
    (message,) = messages(server)
    assert message.startswith("stopping: ")


def wait_until_stopping(http: httpx2.Client) -> None:
    """Wait until the server has taken a signal in."""
    while (answer := http.get("/readyz")).status_code != 503:
        assert answer.json()["status"] == "ready"
    assert answer.json()["status"] == "stopping"


def test_running_calls_are_drained_while_streams_end_and_new_requests_are_refused(
    servers: Servers, stack: Flags, gate: Gate
) -> None:
    server = servers.start(*stack, "--grace", "50")
    with (
        server.client() as http,
        server.client() as late,
        connect(server) as agent,
        ThreadPoolExecutor() as threads,
    ):
        session_id, token = seed(http)
        _, second = seed(http)
        _, other = seed(http)
        calling = [
            threads.submit(call_tool, http, token, "hold", port=gate.port),
            threads.submit(call_tool, http, second, "block", port=gate.port),  # in a thread
        ]
        arrivals = [gate.wait(), gate.wait()]
        listen = post(MODERN, "subscriptions/listen", {"notifications": {}}, token=other)
        agent.sendall(request("/envs/gated/mcp", listen))
        read_until(agent, b"acknowledged")
        server.send()
        read_until(agent, b"\r\n0\r\n")
        wait_until_stopping(late)
        refused = late.post("/envs/gated/seed_session")
        assert refused.status_code == 503
        assert refused.json()["failure_kind"] == "over_capacity"
        assert verify(late, session_id).status_code == 503
        assert call_tool(late, other, "say", text="late")["isError"]
        for arrival in arrivals:
            arrival.release()
        assert [call.result()["content"][0]["text"] for call in calling] == ["held", "blocked"]
    assert server.wait() == 0
    assert sorted(servers.life[1:-1]) == ["close: shutdown", *["close: shutdown ok"] * 2]
    assert messages(server) == ["stopping: 3 requests running"]


def test_a_call_longer_than_the_grace_is_cancelled_and_recorded(
    servers: Servers, stack: Flags, gate: Gate
) -> None:
    server = servers.start(*stack, "--grace", "0.5")
    with server.client() as http, connect(server) as agent:
        _, token = seed(http)
        agent.sendall(request("/envs/gated/mcp", call(MODERN, "hold", token, port=gate.port)))
        arrival = gate.wait()
        server.send()
        arrival.wait_gone()
        assert agent.recv(65536).startswith(b"HTTP/1.1 503")
        assert server.wait() == 0
    assert servers.life[1:] == ["close: shutdown cancelled", "shutdown"]
    assert messages(server) == ["stopping: 1 request running", "1 request cancelled"]


def test_a_second_signal_ends_the_grace(servers: Servers, stack: Flags, gate: Gate) -> None:
    server = servers.start(*stack, "--grace", "600")
    with server.client() as http, connect(server) as agent:
        _, token = seed(http)
        agent.sendall(request("/envs/gated/mcp", call(MODERN, "hold", token, port=gate.port)))
        arrival = gate.wait()
        server.send()
        wait_until_stopping(http)
        server.send()
        arrival.wait_gone()
        assert server.wait() == 0
    assert servers.life[-1] == "shutdown"
    assert "stopping at once" in messages(server)


def test_a_third_signal_ends_the_process_over_its_hooks(
    servers: Servers, stack: Flags, gate: Gate
) -> None:
    hang = {"GATED_HANG": "shutdown", "GATED_PORT": str(gate.port)}
    server = servers.start(*stack, **hang)
    server.send()
    assert gate.wait().place == "shutdown"
    server.send(SIGINT)
    while "stopping at once" not in server.log:
        assert server.process.poll() is None
    server.send()
    assert server.wait() == 1


def test_a_verify_whose_client_has_gone_is_finished_first(
    servers: Servers, stack: Flags, gate: Gate
) -> None:
    server = servers.start(*stack, "--grace", "50")
    with server.client() as http:
        session_id, _ = seed(http, verify=gate.port)
        body = b'{"session_id": "%s"}' % session_id.encode()
        with connect(server) as trainer:
            length = f"content-length: {len(body)}"
            trainer.sendall(head(server, "POST", "/envs/gated/verify", length) + body)
            arrival = gate.wait()
        server.send()
        wait_until_stopping(http)
    arrival.release()
    assert server.wait() == 0
    assert servers.life[1:] == ["verified after 0 calls", "close: verified", "shutdown"]


def test_a_signal_during_the_start_stops_what_has_started(
    servers: Servers, stack: Flags, gate: Gate
) -> None:
    install(servers.folder, "quick", QUICK, {"quick": "Quick"})
    process, log = servers.spawn(*stack, GATED_STARTUP=str(gate.port))
    arrival = gate.wait()
    while "quick is up" not in servers.life:
        assert process.poll() is None
    process.terminate()
    arrival.wait_gone()
    assert process.wait(20) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "stopped\n"
    assert "Traceback" not in log.read_text()
    assert servers.life == ["quick is up", "quick is down"]
