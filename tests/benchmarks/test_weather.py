"""What the generator sends: trajectories of an exact size that a server may well have to read."""

from __future__ import annotations

import json

import pytest

from benchmarks.cells import LEGACY, MODERN, Cell
from benchmarks.load import Load, episodes
from benchmarks.weather import CITIES, WRONG, Floor, Weather, _attempt
from tests.benchmarks.fake_server import FakeServer, answer, report

STEPS = {"seed": 300, "call": 150, "verify": 4000}


@pytest.mark.parametrize("kilobytes", [1, 2, 3, 64, 512])
def test_a_trajectory_has_exactly_its_size_and_ends_with_the_report(kilobytes: int) -> None:
    cell = Cell(backend="asyncio", kilobytes=kilobytes)
    for number in (0, WRONG):
        attempt = _attempt(cell, "key", number)
        head, body = attempt.verify[0], attempt.verify[1].removeprefix(b"\r\n\r\n")
        assert len(body) == kilobytes * 1024
        assert f"content-length: {len(body)}\r\n".encode() in head
        output = json.loads(body)["response"]["output"]
        told = CITIES[number - 1] if number == WRONG else CITIES[number]
        assert output[-1]["content"][0]["text"] == report(told)
        calls = [item["call_id"] for item in output if item["type"] == "function_call"]
        outputs = [item["call_id"] for item in output if item["type"] == "function_call_output"]
        assert calls == outputs
        assert len(calls) == len(set(calls))
        assert len(output) >= 2 * kilobytes  # items, not one long text


@pytest.mark.parametrize("protocol", [LEGACY, MODERN])
def test_a_tool_call_is_of_its_protocol(protocol: str) -> None:
    attempt = _attempt(Cell(backend="asyncio", protocol=protocol), "key", 0)
    head, _, body = b"<token>".join(attempt.call).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    message = json.loads(body)
    assert int(headers["content-length"]) == len(body)
    assert headers["mcp-protocol-version"] == protocol
    assert ("mcp-method" in headers) == ("_meta" in message["params"]) == (protocol == MODERN)


def test_a_size_that_holds_no_trajectory_is_refused() -> None:
    with pytest.raises(ValueError, match="a trajectory takes more than 0 bytes"):
        Weather(Cell(backend="asyncio", kilobytes=0), "key")


def test_the_floor_sends_what_an_episode_sends_and_gets_as_much_back(server: FakeServer) -> None:
    cell = Cell(backend="asyncio", kilobytes=4)
    with Load(server.address, 1) as opened:
        opened.play(episodes(Weather(cell, "key").play, at_least=1))
        window = opened.play(episodes(Floor(cell, "key", STEPS).play, at_least=2))
    assert window.episodes == 2
    assert window.answer_bytes == STEPS
    own, floor = server.requests[:3], server.requests[3:6]
    assert [path for path, _, _ in floor] == ["/300", "/150", "/4000"]
    for (_, headers, body), (_, floor_headers, floor_body) in zip(own, floor, strict=True):
        assert headers.keys() == floor_headers.keys()
        assert body == floor_body


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (answer(b"x" * 299), "another length than was asked for"),
        (answer({}, status=500), "HTTP 500"),
    ],
)
def test_the_floor_is_checked_as_well(sent: bytes, kind: str, server: FakeServer) -> None:
    server.spoil["floor"] = lambda number, due: sent
    with Load(server.address, 1) as opened:
        window = opened.play(episodes(Floor(Cell(backend="trio"), "k", STEPS).play, at_least=1))
    assert window.failures == {f"seed: {kind}": 1}
