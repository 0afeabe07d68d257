"""Episodes of the weather environment, encoded once: only what a session is given is spliced in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from benchmarks.cells import MODERN, Cell
from benchmarks.load import Answer, Episode, Failed, Request
from gymhost.http.mcp import TOKEN_HEADER

# A city for each: a session that got another one's call would not be rewarded.
CITIES = (
    *("Paris", "Lima", "Oslo", "Cairo", "Quito", "Delhi", "Tokyo", "Seoul"),
    *("Accra", "Dakar", "Hanoi", "Turin", "Porto", "Perth", "Sofia", "Miami"),
)
WRONG = len(CITIES) - 1
"""In one of sixteen the agent tells another city's weather, which must score 0.0."""

COOKIE = re.compile(rb"\r\nset-cookie: *([^;\r\n]+)", re.IGNORECASE)
REWARD = re.compile(rb'"reward": ?([^,}\s]+)')
META = "io.modelcontextprotocol/"


@dataclass(frozen=True)
class _Attempt:
    """The bytes of one city's episode; a session's cookie and token go between two pieces."""

    city: str
    due: float
    seed: bytes
    call: tuple[bytes, bytes]
    verify: tuple[bytes, bytes]


class Weather:
    """Plays episodes against a server that speaks gymhost's wire.

    Raises: ValueError: the size is too small for a trajectory.
    """

    def __init__(self, cell: Cell, key: str) -> None:
        """`key` is the server's control key."""
        self._attempts = [_attempt(cell, key, number) for number in range(len(CITIES))]

    def play(self, number: int) -> Episode:
        """Seed, call the tool, verify; check each answer."""
        attempt = self._attempts[number % len(CITIES)]
        answer = yield Request("seed", (attempt.seed,))
        token = _token(answer)
        cookie = COOKIE.search(answer.head)
        if cookie is None:
            raise Failed("no cookie in the answer")
        before, after = attempt.call
        answer = yield Request("call", (before, token, after))
        _check_call(_json(answer), attempt.city)
        before, after = attempt.verify
        answer = yield Request("verify", (before, cookie[1], after))
        _check_reward(answer, attempt.due)


class Openings:
    """Seeds sessions, and leaves them open."""

    def __init__(self, key: str) -> None:
        """`key` is the server's control key."""
        self._request = Request("seed", (_attempt(Cell(backend=""), key, 0).seed,))

    def play(self, number: int) -> Episode:
        """Seed; check the answer."""
        _token((yield self._request))


class Floor:
    """Plays three constant answers in the place of an episode.

    The requests are an episode's, and the answers have the length of an episode's.
    """

    def __init__(self, cell: Cell, key: str, answer_bytes: dict[str, int]) -> None:
        """`answer_bytes` has the length that each step's body really has."""
        attempt = _attempt(cell, key, 0)
        pieces = {
            "seed": (attempt.seed,),
            "call": (attempt.call[0], b"t" * 43, attempt.call[1]),
            "verify": (attempt.verify[0], b"gymhost_session=" + b"s" * 32, attempt.verify[1]),
        }
        self._requests = [
            (Request(step, _to(f"/{answer_bytes[step]}", pieces[step])), answer_bytes[step])
            for step in pieces
        ]

    def play(self, number: int) -> Episode:
        """Ask three times; check the length of each answer."""
        for request, length in self._requests:
            answer = yield request
            if answer.status != 200:
                raise Failed(f"HTTP {answer.status}")
            if len(answer.body) != length:
                raise Failed("another length than was asked for")


def _attempt(cell: Cell, key: str, number: int) -> _Attempt:
    city = CITIES[number]
    told = CITIES[number - 1] if number == WRONG else city
    task = {
        "responses_create_params": {
            "input": [{"role": "user", "content": f"Say word for word the weather in {city}."}]
        },
        "verifier_metadata": {"expected_city": city},
    }
    body = json.dumps(task).encode()
    plane = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return _Attempt(
        city=city,
        due=0.0 if number == WRONG else 1.0,
        seed=_head("seed_session", plane, len(body)) + b"\r\n" + body,
        call=_call(cell.protocol, city),
        verify=_verify(task, told, cell.kilobytes * 1024, plane),
    )


def _call(protocol: str, city: str) -> tuple[bytes, bytes]:
    """Return the tool call, split where the token goes."""
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": protocol,
    }
    params: dict[str, Any] = {"name": "get_weather", "arguments": {"city": city}}
    if protocol == MODERN:
        headers |= {"mcp-method": "tools/call", "mcp-name": "get_weather"}
        params["_meta"] = {
            f"{META}protocolVersion": protocol,
            f"{META}clientCapabilities": {},
            f"{META}clientInfo": {"name": "benchmark", "version": "1"},
        }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    body = json.dumps(message).encode()
    head = _head("mcp", headers, len(body))
    return head + f"{TOKEN_HEADER}: ".encode(), b"\r\n\r\n" + body


def _verify(
    task: dict[str, Any], told: str, size: int, plane: dict[str, str]
) -> tuple[bytes, bytes]:
    """Return a request to verify with a body of `size` bytes, split where the cookie goes."""
    body = json.dumps(task | {"response": {"output": []}}).encode()
    answer = [_message(_report(told))]
    output: list[dict[str, Any]] = []
    # what a longer trajectory has more of: calls, their outputs, and what the model says between
    missing = size - len(body) - len(json.dumps(answer)) + 2
    filler = _message("")
    missing -= len(json.dumps(filler)) + 2
    while missing > (length := len(json.dumps(more := _turn(len(output))))):
        output += more
        missing -= length  # two brackets for two separators
    if missing < 0:
        raise ValueError(f"a trajectory takes more than {size} bytes")
    filler["content"][0]["text"] = "x" * missing
    output = [filler, *output, *answer]
    body = json.dumps(task | {"response": {"output": output}}).encode()
    assert len(body) == size
    return _head("verify", plane, size) + b"cookie: ", b"\r\n\r\n" + body


def _turn(number: int) -> list[dict[str, Any]]:
    call_id = f"call_{number:06}"
    arguments = json.dumps({"path": f"notes/{number:06}.md"})
    text = "It was mild and clear for most of the day, with a light breeze from the west. "
    return [
        _message("Let me look at what has been written down about that place so far. "),
        {"type": "function_call", "name": "read", "call_id": call_id, "arguments": arguments},
        {"type": "function_call_output", "call_id": call_id, "output": text * 6},
    ]


def _message(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content}


def _report(city: str) -> str:
    return f"The weather in {city} is sunny and 72 F."


def _head(page: str, headers: dict[str, str], length: int) -> bytes:
    lines = [f"POST /envs/weather/{page} HTTP/1.1", "host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"content-length: {length}", ""]).encode()


def _to(path: str, pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the same request, to another path."""
    method, _, rest = pieces[0].split(b" ", 2)
    return (b" ".join([method, path.encode(), rest]), *pieces[1:])


def _token(answer: Answer) -> bytes:
    try:
        token: bytes = _json(answer)["mcp"]["headers"][TOKEN_HEADER].encode()
    except (AttributeError, KeyError, TypeError):
        raise Failed("no token in the answer") from None
    return token


def _json(answer: Answer) -> Any:
    if answer.status != 200:
        raise Failed(f"HTTP {answer.status}")
    try:
        return json.loads(answer.body)
    except ValueError:
        raise Failed("not JSON") from None


def _check_call(message: Any, city: str) -> None:
    match message:
        case {"error": _}:
            raise Failed("JSON-RPC error")
        case {"result": {"isError": True}}:
            raise Failed("tool error")
        case {"result": {"content": [{"text": text}]}} if text == _report(city):
            return
    raise Failed("another result than was due")


def _check_reward(answer: Answer, due: float) -> None:
    if answer.status != 200:
        raise Failed(f"HTTP {answer.status}")
    # from the end: half a megabyte of echo comes before it
    found = REWARD.match(answer.body, max(answer.body.rfind(b'"reward":'), 0))
    try:
        reward = float(found[1]) if found is not None else None
    except ValueError:
        reward = None
    if reward is None:
        raise Failed("no reward in the answer")
    if reward != due:
        raise Failed(f"reward {reward} where {due} was due")
