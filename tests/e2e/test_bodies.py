"""Bodies too large, too slow, unwanted or announced, and the connection they come on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.e2e.raw import connect, head, read_until, request
from tests.e2e.servers import Flags, Server, Servers, call_tool, seed
from tests.http.wire import call

MIB = 1024 * 1024
PLANES = {"/envs/gated/seed_session": 64 * MIB, "/envs/gated/mcp": 4 * MIB}


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


# what the agent plane wants to see before it reads a body
JSON = ("content-type: application/json", "accept: application/json, text/event-stream")


@pytest.mark.parametrize(("path", "limit"), PLANES.items())
def test_a_body_past_the_limit_is_refused_before_it_has_come(
    server: Server, path: str, limit: int
) -> None:
    with connect(server) as client:
        client.sendall(head(server, "POST", path, f"content-length: {limit + 1}", *JSON))
        answer = read_until(client, b"}")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert str(limit).encode() in answer


@pytest.mark.parametrize(("path", "limit"), PLANES.items())
def test_a_body_without_a_length_is_refused_once_it_is_past_the_limit(
    server: Server, path: str, limit: int
) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connect(server) as client, ThreadPoolExecutor() as threads:
        client.sendall(head(server, "POST", path, "transfer-encoding: chunked", *JSON))
        answer = threads.submit(read_until, client, b"}")
        for _ in range(limit // 0x10000 + 1):
            client.sendall(piece)
        # the body has not ended, and never will
        assert answer.result().startswith(b"HTTP/1.1 413 ")


def test_a_body_up_to_the_limit_is_read(http: httpx2.Client) -> None:
    _, token = seed(http)
    empty = call("2025-11-25", "say", token, text="")
    text = "x" * (4 * MIB - len(empty.content))
    full = call("2025-11-25", "say", token, text=text)
    assert len(full.content) == 4 * MIB
    headers = {name: value for name, value in full.headers.items() if value}
    answer = http.post("/envs/gated/mcp", content=full.content, headers=headers)
    assert "more than the 1048576 allowed" in answer.json()["result"]["content"][0]["text"]
    answer = http.post("/envs/gated/mcp", content=full.content + b" ", headers=headers)
    assert answer.status_code == 413


def test_a_trajectory_of_two_megabytes_is_scored_and_comes_back(http: httpx2.Client) -> None:
    session_id, _ = seed(http)
    said = {"type": "message", "role": "assistant", "content": [{"text": "Grüße " * 20}]}
    body = {"session_id": session_id, "response": {"output": [said] * 10_000}}
    raw = json.dumps(body, ensure_ascii=False).encode()
    assert len(raw) > 2 * MIB
    answer = http.post("/envs/gated/verify", content=raw)
    assert answer.status_code == 200
    assert answer.content.startswith(raw[:-1] + b',"reward":')


@pytest.mark.parametrize(
    "path", ["/envs/gated/seed_session", "/envs/nowhere/verify", "/", "/nowhere"]
)
def test_a_large_body_that_nobody_wants_is_answered_and_the_connection_lives_on(
    server: Server, path: str
) -> None:
    with httpx2.Client(base_url=server.url, timeout=20) as stranger:
        refused = stranger.post(path, content=b"x" * (20 * MIB))
        assert refused.status_code in (401, 404, 405)
        again = stranger.get("/healthz")
        addresses = {
            answer.extensions["network_stream"].get_extra_info("client_addr")
            for answer in (refused, again)
        }
    assert again.status_code == 200
    assert len(addresses) == 1


def test_refused_bodies_leave_nothing_that_keeps_the_server_from_stopping(
    servers: Servers, stack: Flags
) -> None:
    server = servers.start(*stack, "--grace", "0.2")
    with httpx2.Client(base_url=server.url, timeout=20) as stranger:
        refused = stranger.post("/envs/gated/seed_session", content=b"x" * (20 * MIB))
        assert refused.status_code == 401
    with connect(server) as client:
        client.sendall(head(server, "POST", "/envs/gated/verify", f"content-length: {65 * MIB}"))
        assert b" 413 " in read_until(client, b"}")
        with server.client() as http:
            seed(http)
        assert server.stop() == 0
    assert servers.life[-1] == "shutdown"
    assert "Traceback" not in server.log


def test_a_client_that_waits_to_be_told_to_send_its_body_is_told(server: Server) -> None:
    with connect(server) as client:
        waits = ("content-length: 2", "expect: 100-continue")
        client.sendall(head(server, "POST", "/envs/gated/seed_session", *waits))
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.sendall(b"{}")
        assert read_until(client, b"}}").startswith(b"HTTP/1.1 200 ")


def test_a_body_that_comes_byte_by_byte_is_read_whole(server: Server, http: httpx2.Client) -> None:
    body = '{"verifier_metadata": {"name": "Zürich"}}'.encode()
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        length = f"content-length: {len(body)}"
        for byte in head(server, "POST", "/envs/gated/seed_session", length) + body:
            client.sendall(bytes([byte]))
        answer = read_until(client, b"}}")
    session_id = json.loads(answer.partition(b"\r\n\r\n")[2])["session_id"]
    task = http.get(f"/sessions/{session_id}").json()["task"]
    assert task["verifier_metadata"] == {"name": "Zürich"}


def test_a_connection_is_closed_where_the_client_asks_for_it(server: Server) -> None:
    with connect(server) as client:
        client.sendall(head(server, "GET", "/healthz", "connection: close"))
        answer = read_until(client, b"nothing ends it but the server")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()


def test_requests_sent_at_once_are_answered_in_their_order(
    server: Server, http: httpx2.Client
) -> None:
    _, token = seed(http)
    calls = [request("/envs/gated/mcp", call("2025-11-25", "say", token, text=t)) for t in "abc"]
    with connect(server) as client:
        client.sendall(head(server, "GET", "/readyz") + b"".join(calls))
        answers = read_until(client, b'"c"')
    places = [answers.index(text) for text in (b'"ready"', b'"a"', b'"b"', b'"c"')]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no host
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * 100_000, b"431"),
        (b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_http_is_refused(
    server: Server, http: httpx2.Client, sent: bytes, status: bytes
) -> None:
    logged = server.log
    with connect(server) as client:
        client.sendall(sent)
        assert client.recv(65536).startswith(b"HTTP/1.1 " + status)
    assert http.get("/healthz").status_code == 200
    assert server.log == logged


def test_a_head_in_small_pieces_is_refused_once_it_is_too_large(server: Server) -> None:
    with connect(server) as client, ThreadPoolExecutor() as threads:
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        answer = threads.submit(read_until, client, b"\r\n\r\n")
        for number in range(1000):
            try:
                client.sendall(b"x%d: %s\r\n" % (number, b"x" * 1000))
            except ConnectionError:
                break  # it is refused, and nobody listens any more
        assert answer.result().startswith(b"HTTP/1.1 431 ")


def test_what_follows_a_body_for_ever_closes_the_connection(server: Server) -> None:
    with connect(server) as client:
        chunked = ("transfer-encoding: chunked", *JSON)
        client.sendall(head(server, "POST", "/envs/gated/seed_session", *chunked) + b"0\r\nx: ")
        sending = iter(lambda: client.sendall(b"x" * 10_000), "never")
        with pytest.raises(ConnectionError):
            sum(sent is None for sent in sending)


def test_an_offer_of_http_2_is_declined_and_the_connection_lives_on(server: Server) -> None:
    offer = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    body = b'{"verifier_metadata": {}}'
    with connect(server) as client:
        for _ in range(2):
            length = f"content-length: {len(body)}"
            client.sendall(head(server, "POST", "/envs/gated/seed_session", length, *offer) + body)
            assert read_until(client, b"}}").startswith(b"HTTP/1.1 200 ")
        client.sendall(head(server, "GET", "/readyz"))
        assert read_until(client, b"}").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/", "/envs/gated", "/envs/gated/mcp"])
def test_a_websocket_is_refused(server: Server, path: str) -> None:
    logged = server.log
    upgrade = ("upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13")
    with connect(server) as client:
        client.sendall(
            head(server, "GET", path, *upgrade, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 403 ")
    assert server.log == logged


def test_a_call_after_all_this_is_answered(http: httpx2.Client) -> None:
    _, token = seed(http)
    assert call_tool(http, token, "say", text="fine")["content"][0]["text"] == "fine"
