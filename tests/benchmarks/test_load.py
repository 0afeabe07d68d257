"""The generator, against servers that go wrong in every way: all is counted, and nothing hangs."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter
from typing import Any

import pytest

from benchmarks import load
from benchmarks.cells import Cell
from benchmarks.errors import BenchmarkError
from benchmarks.load import Episode, Failed, Load, Request, Window, episodes
from benchmarks.weather import CITIES, Weather
from tests.benchmarks.fake_server import FakeServer, answer

CELL = Cell(backend="asyncio")
WEATHER = Weather(CELL, "the-key")
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


def play(
    server: FakeServer, number: int, concurrency: int = 4, *, patience: float = 20.0
) -> Window:
    with Load(server.address, concurrency, patience=patience) as opened:
        return opened.play(episodes(WEATHER.play, at_least=number))


def tool_result(text: str, *, is_error: bool = False) -> bytes:
    content = [{"type": "text", "text": text}]
    return answer({"result": {"content": content, "isError": is_error}})


@pytest.mark.parametrize("concurrency", [1, 7, 64])
def test_all_episodes_are_played_and_each_step_is_timed(
    server: FakeServer, concurrency: int
) -> None:
    window = play(server, 3 * len(CITIES), concurrency)
    assert window.episodes == 3 * len(CITIES)
    assert not window.failures
    assert Counter(server.expected) == Counter(3 * CITIES)
    for step in ("seed", "call", "verify", "episode"):
        assert len(window.latencies[step]) == 3 * len(CITIES)
        assert min(window.latencies[step]) > 0
    steps = sum(sum(window.latencies[step]) for step in ("seed", "call", "verify"))
    assert steps <= sum(window.latencies["episode"])


def test_a_step_takes_as_long_as_its_answer_lets_wait(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(load, "perf_counter", lambda: now)

    def wait(number: int, due: bytes) -> bytes:
        nonlocal now
        now += number + 0.25
        return due

    server.spoil["verify"] = wait
    window = play(server, 3, 1)
    assert window.latencies["seed"] == window.latencies["call"] == [0, 0, 0]
    assert window.latencies["verify"] == window.latencies["episode"] == [0.25, 1.25, 2.25]


def test_a_request_has_what_its_session_was_given(server: FakeServer) -> None:
    play(server, 1)
    (_, seed, _), (_, call, _), (path, verify, body) = server.requests
    assert seed["authorization"] == verify["authorization"] == "Bearer the-key"
    assert "authorization" not in call
    assert call["x-nemo-gym-session-token"] == "token-0"
    assert path == "/envs/weather/verify"
    assert verify["cookie"] == "session=0"
    assert len(body) == 2048


def test_one_of_sixteen_episodes_is_wrong_and_has_to_score_nothing(server: FakeServer) -> None:
    rewards = Counter[bytes]()

    def note(number: int, due: bytes) -> bytes:
        rewards[due[-4:-1]] += 1
        return due

    server.spoil["verify"] = note
    assert not play(server, 32).failures
    assert rewards == {b"1.0": 30, b"0.0": 2}
    server.spoil["verify"] = lambda number, due: due.replace(b'"reward":0.0', b'"reward":1.0')
    assert play(server, 32).failures == {"verify: reward 1.0 where 0.0 was due": 2}


def test_a_server_that_mixes_up_sessions_is_found_out(server: FakeServer) -> None:
    def mix_up(number: int, due: bytes) -> bytes:
        """Book the call on the session before."""
        server.asked[number], server.asked[number - 1] = (
            server.asked.get(number - 1, []),
            server.asked[number],
        )
        return due

    server.spoil["call"] = mix_up
    window = play(server, 15, 1)
    assert window.failures == {"verify: reward 0.0 where 1.0 was due": 15}


SPOILT: dict[str, Any] = {
    "seed: HTTP 401": lambda due: answer({}, status=401),
    "seed: HTTP 503": lambda due: answer({"mask_sample": True}, status=503),
    "seed: not JSON": lambda due: answer(b"<html>"),
    "seed: no token in the answer": lambda due: answer({"session_id": "1"}),
    "seed: no cookie in the answer": lambda due: due.replace(b"set-cookie", b"set-nothing"),
    "call: HTTP 500": lambda due: answer({}, status=500),
    "call: tool error": lambda due: tool_result("The tool failed.", is_error=True),
    "call: JSON-RPC error": lambda due: answer({"error": {"code": -32603}}),
    "call: another result than was due": lambda due: tool_result("It rains."),
    "call: not HTTP/1.1": lambda due: b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "call: an answer without content-length": lambda due: CHUNKED,
    "call: more than one answer": lambda due: due + due,
    "call: connection closed instead of an answer": lambda due: None,
    "call: connection closed within an answer": lambda due: due[:-1],
    "verify: connection closed within an answer": lambda due: due[:20],
    "verify: HTTP 502": lambda due: answer({"unmasked_reward": 1.0}, status=502),
    "verify: no reward in the answer": lambda due: answer({"mask_sample": True}),
    "verify: reward 0.99 where 1.0 was due": lambda due: answer({"reward": 0.99}),
    "verify: reward nan where 1.0 was due": lambda due: answer(b'{"reward": NaN}'),
    "verify: reward 0.0 where 1.0 was due": lambda due: due.replace(b":1.0}", b":0.0}"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_goes_wrong_is_counted_by_kind_and_the_rest_goes_on(
    server: FakeServer, kind: str
) -> None:
    step = kind.partition(":")[0]
    server.spoil[step] = lambda number, due: SPOILT[kind](due) if number == 5 else due
    window = play(server, 15)
    assert window.failures == {kind: 1}
    assert window.episodes == 14


def test_a_null_or_a_text_is_no_reward(server: FakeServer) -> None:
    for body in (b'{"reward": null}', b'{"reward": "1.0"}', b'{"reward"', b"1.0", b""):
        server.spoil["verify"] = lambda number, due, body=body: answer(body)
        assert play(server, 1).failures == {"verify: no reward in the answer": 1}


def test_an_endless_head_is_given_up(server: FakeServer) -> None:
    server.spoil["seed"] = lambda number, due: b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000
    assert play(server, 1).failures == {"seed: not HTTP/1.1": 1}


def test_an_answer_that_never_comes_is_given_up_and_nothing_more_is_begun(
    server: FakeServer,
) -> None:
    def hang(number: int, due: bytes) -> bytes:
        if number == 2:
            server.hung.wait()
        return due

    server.spoil["call"] = hang
    with Load(server.address, 2, patience=0.2) as opened:
        window = opened.play(episodes(WEATHER.play, at_least=10**9))
    assert window.late
    assert window.failures == {"call: no answer in time": 1}
    assert window.episodes == len(window.latencies["verify"])


def test_a_server_that_is_gone_retires_the_workers(server: FakeServer) -> None:
    gone = threading.Event()

    def leave(number: int, due: bytes) -> bytes | None:
        if number < 8:
            return due
        if not gone.is_set():
            gone.set()
            server.go_away()
        return None

    server.spoil["verify"] = leave
    window = play(server, 10**9)
    assert window.episodes == 8
    assert window.retired == 4
    # by itself a failure: fewer are at once than the table says
    assert window.failures["connect: refused"] == 4


def test_a_connection_that_was_closed_between_two_windows_is_opened_again(
    server: FakeServer,
) -> None:
    with Load(server.address, 2) as opened:
        assert opened.play(episodes(WEATHER.play, at_least=2)).episodes == 2
        for worker in opened._workers:
            assert worker._socket is not None
            worker._socket.shutdown(socket.SHUT_RD)
            worker.read()
        window = opened.play(episodes(WEATHER.play, at_least=4))
    assert window.episodes == 4
    assert not window.failures


def test_a_body_larger_than_what_a_connection_takes_at_once_arrives_whole(
    server: FakeServer,
) -> None:
    size = 16 * 1024 * 1024
    head = f"POST /5 HTTP/1.1\r\ncontent-length: {size}\r\n\r\n".encode()

    def large(number: int) -> Episode:
        got = yield Request("verify", (head, b"ab" * (size // 4), b"cd" * (size // 4)))
        if got.body != b"xxxxx":
            raise Failed("another body")

    with Load(server.address, 2) as opened:
        window = opened.play(episodes(large, at_least=4))
    assert window.episodes == 4
    assert not window.failures
    for _, _, body in server.requests:
        assert body == b"ab" * (size // 4) + b"cd" * (size // 4)


def test_a_connection_that_takes_nothing_more_is_replaced(server: FakeServer) -> None:
    with Load(server.address, 1) as opened:
        (worker,) = opened._workers
        assert worker._socket is not None
        worker._socket.shutdown(socket.SHUT_WR)
        window = opened.play(episodes(WEATHER.play, at_least=3))
    assert window.failures == {"seed: connection closed instead of an answer": 1}
    assert window.episodes == 2


def test_a_reset_is_a_closed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            client, _ = listener.accept()
            client.recv(1000)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        thread = threading.Thread(target=reset)
        thread.start()
        with Load(listener.getsockname(), 1) as opened:
            window = opened.play(episodes(WEATHER.play, at_least=1))
        thread.join()
    assert window.failures == {"seed: connection closed instead of an answer": 1}


def test_a_refusal_before_all_was_sent_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            for _ in range(2):
                client, _ = listener.accept()
                with client:
                    client.recv(1000)
                    client.sendall(answer({}, status=413))
                    client.settimeout(20)
                    while client.recv(2**20):  # a reset would take the answer back
                        pass

        def large(number: int) -> Episode:
            yield Request("verify", (b"POST / HTTP/1.1\r\n\r\n", bytes(64 * 1024 * 1024)))

        thread = threading.Thread(target=refuse)
        thread.start()
        with Load(listener.getsockname(), 1) as opened:
            window = opened.play(episodes(large, at_least=1))
        socket.create_connection(listener.getsockname()).close()
        thread.join()
    assert window.failures == {"verify: HTTP 413 before all was sent": 1}


def test_connections_that_can_not_be_opened_end_it(server: FakeServer) -> None:
    address = server.address
    server.go_away()
    with pytest.raises(BenchmarkError, match=r"connection 1 of 3 to port .* can't be opened"):
        Load(address, 3)


def test_a_window_lasts_its_time_and_its_number_of_episodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(load, "perf_counter", lambda: now)
    played: list[int] = []

    def note(number: int) -> Any:
        played.append(number)

    begun = episodes(note, at_least=3, seconds=5.0)
    for _ in range(5):
        next(begun)
        now += 1
    assert next(begun, "over") == "over"
    assert played == [0, 1, 2, 3, 4]
    assert len(list(episodes(note, at_least=3))) == 3


def test_answers_are_as_long_as_the_server_made_them(server: FakeServer) -> None:
    window = play(server, 4, 1)
    assert window.answer_bytes["verify"] == 2048 + len(',"reward":1.0')
    assert set(window.answer_bytes) == {"seed", "call", "verify"}


def test_a_reward_is_the_last_one_of_an_answer(server: FakeServer) -> None:
    """The echo comes first, and a model may have written anything."""
    body = json.dumps({"echo": '"reward":0.0', "x": {"reward": 0.5}})[:-1].encode()
    server.spoil["verify"] = lambda number, due: answer(body + b',"reward":1.0,"more":2}')
    assert not play(server, 3).failures
