"""What `gymhost call` and `mcp-config` make of servers that are almost a gymhost."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gymhost.episode
from gymhost.control_key import mint_key
from tests.cli.conftest import Ran, Run
from tests.cli.strangers import STEERING, Stranger, serving, tool
from tests.cli.test_terminals import in_terminal
from tests.distributions import variables
from tests.e2e.servers import GYMHOST

CALL = ["call", "weather", "say", "--arg", "city=Paris"]
SEED = ["mcp-config", "weather"]
SCORE = ["mcp-config", "weather", "--verify", "x", "--session", "s"]

LOOP = {"properties": {"city": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}}
DEEP = json.loads('{"anyOf": [' * 300 + "{}" + "]}" * 300)


def ask(run: Run, stranger: Stranger, command: list[str]) -> Ran:
    with serving(stranger) as url:
        return run(*command, "--url", url)


@pytest.mark.parametrize("command", [CALL, SEED])
@pytest.mark.parametrize(
    "stranger",
    [
        Stranger(tools=["x"]),
        Stranger(tools=[{}]),
        Stranger(tools=[{"name": 1, "inputSchema": {}}]),
        Stranger(tools=[{"name": "say", "inputSchema": None}]),
        Stranger(tools={"say": {}}),
        Stranger(seeded={"mcp": None}),
        Stranger(seeded={"session_id": "\ud800"}),
        Stranger(seeded={"expires_at": "soon"}),
        Stranger(mcp={"headers": None}),
        Stranger(mcp={"headers": {"a": "\ud800"}}),
        Stranger(raw=b"[" * 100_000),
        Stranger(raw=b"[1]"),
    ],
    ids=lambda stranger: str(stranger)[:60] if isinstance(stranger, Stranger) else stranger[0],
)
def test_an_answer_of_another_form_is_no_gymhosts(
    run: Run, stranger: Stranger, command: list[str]
) -> None:
    ran = ask(run, stranger, command)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith(f"gymhost: what answers at {stranger.url} is no gymhost")


@pytest.mark.parametrize(
    "stranger",
    [
        Stranger(mcp={"url": "http://[::1"}),
        Stranger(mcp={"url": "ftp://x"}),
        Stranger(mcp={"url": "/mcp"}),
        Stranger(mcp={"headers": {"a": "é"}}),
        Stranger(mcp={"headers": {"a": "x\r\ny"}}),
        Stranger(result={"content": 1}),
        Stranger(result={"content": [{"type": "text"}]}),
        Stranger(
            result={"content": [], "structuredContent": {"a": 1}},
            lists=[{**tool(), "outputSchema": {"type": "nonsense"}}],
        ),
        Stranger(
            result={"content": [], "structuredContent": {"a": 1}},
            lists=[{**tool(), "outputSchema": {"type": "object", "required": ["b"]}}],
        ),
        Stranger(lists=[{"name": 1}]),
    ],
    ids=lambda stranger: str(stranger)[:60],
)
def test_tools_that_can_not_be_called_are_one_line(run: Run, stranger: Stranger) -> None:
    ran = ask(run, stranger, CALL)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("gymhost: ")


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": [1]},
        {"properties": {"city": None}},
        {"properties": {"city": True}},
        {"properties": {"city": {"type": "nonsense"}}},
        {"properties": {"city": {"$ref": 1}}},
        {"properties": {"city": {"enum": 1}}, "additionalProperties": True},
        {"properties": {"city": {"anyOf": 1}}, "$defs": 1},
        {"properties": {"city": DEEP}},
        LOOP,
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_a_schema_that_is_none_is_left_to_the_server(run: Run, schema: dict[str, Any]) -> None:
    schema.setdefault("additionalProperties", True)
    ran = ask(run, Stranger(tools=[tool(schema=schema)]), CALL)
    assert (ran.code, ran.out, ran.err) == (0, "hi\n", "")


def test_a_schema_that_takes_for_ever_is_ended_by_ctrl_c(tmp_path: Path) -> None:
    twice = {f"A{n}": {"allOf": [{"$ref": f"#/$defs/A{n + 1}"}] * 2} for n in range(60)}
    schema = {"properties": {"city": {"$ref": "#/$defs/A0"}}, "$defs": {**twice, "A60": {}}}
    stranger = Stranger(tools=[tool(schema=schema)])
    with (
        serving(stranger) as url,
        subprocess.Popen([GYMHOST, *CALL, "--url", url], env=variables(tmp_path)) as process,
    ):
        assert stranger.asked.wait(20)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 130
        finally:
            process.kill()
    assert stranger.paths == ["GET /envs/weather"]


def test_an_answer_that_never_comes_is_not_waited_for_without_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gymhost.episode, "READ_SECONDS", 0.5)
    stranger = Stranger(result=None)
    ran = ask(run, stranger, CALL)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"gymhost: the MCP endpoint of weather at {stranger.url} did not answer in time\n"
    )
    # on a busy machine the MCP endpoint is told after that that the call was cancelled
    others = [path for path in stranger.paths if not path.endswith("/mcp")]
    assert others[-1] == "POST /envs/weather/close_session"


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours before UTC ends, the day ends."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("expires", "said"),
    [("9999-12-31T23:59:59Z", "23:59 UTC"), ("2030-01-01T00:00:00Z", "09:00")],
)
def test_the_end_of_a_session_is_said_even_where_no_clock_has_it(
    run: Run, tokyo: None, expires: str, said: str
) -> None:
    ran = ask(run, Stranger(seeded={"expires_at": expires}), SEED)
    assert ran.code == 0
    assert ran.err.startswith(f"session  s, until {said} if ")


# -- the key ---------------------------------------------------------------------------------------


def test_the_kept_key_is_sent_to_this_machine_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    minted = mint_key()
    stranger = Stranger()
    assert ask(run, stranger, SEED).code == 0
    assert set(stranger.keys) == {f"Bearer {minted}"}
    for address in ("https://gym.example", "http://203.0.113.7:8000"):
        monkeypatch.setenv("GYMHOST_URL", address)
        for command in (SEED, CALL, SCORE):
            ran = run(*command)
            assert (ran.code, ran.out) == (2, "")
            assert ran.err == (
                f"gymhost: {address} is not known to be this machine, and the key that is kept "
                "here is sent nowhere else: set GYMHOST_API_KEY, or `keys` in the configuration, "
                "to that server's\n"
            )


def test_a_server_behind_a_proxy_is_asked_at_its_own_address(run: Run, tmp_path: Path) -> None:
    outside = "https://gym.example/envs/weather/mcp"
    stranger = Stranger(mcp={"url": outside})
    minted = mint_key()
    with serving(stranger) as url:
        port = url.rpartition(":")[2]
        file = tmp_path / "served.yaml"
        file.write_text(f"host: 0.0.0.0\nport: {port}\npublic_url: https://gym.example\n")
        ran = run(*CALL, "--config", str(file))
        assert (ran.code, ran.out, ran.err) == (0, "hi\n", "")
        seeded = run(*SEED, "--config", str(file))
        ran = run(*CALL, "--session", "last", "--config", str(file))
        assert (ran.code, ran.out) == (0, "hi\n")
    # an agent may be elsewhere
    assert json.loads(seeded.out)["mcpServers"]["weather"]["url"] == outside
    assert {key for key in stranger.keys if key} == {f"Bearer {minted}"}


# -- what steers a terminal ------------------------------------------------------------------------

ESCAPED = r"\x1b]0;mine\x07\x1b[2J\x9b31m\x7f\u202e"


@pytest.mark.parametrize(
    ("stranger", "command"),
    [
        (Stranger(tools=[tool(STEERING)]), CALL),
        (Stranger(tools=[tool(schema={"properties": {STEERING: {}}})]), CALL),
        (Stranger(refusal={"detail": STEERING, "failure_kind": "odd"}), SEED),
        (Stranger(refusal={"detail": "x", "failure_kind": STEERING}), SEED),
        (Stranger(seeded={"session_id": STEERING}), SEED),
        (
            Stranger(result={"isError": True, "content": [{"type": "text", "text": STEERING}]}),
            CALL,
        ),
    ],
    ids=["tool", "argument", "detail", "kind", "session", "error"],
)
def test_what_a_server_says_for_a_person_does_not_steer_the_terminal(
    run: Run, stranger: Stranger, command: list[str]
) -> None:
    ran = ask(run, stranger, command)
    assert ESCAPED in ran.err
    assert not set(STEERING) & set(ran.err) - set("]0;mine[2J31m")


def test_a_result_is_as_it_is_for_a_program_and_escaped_in_a_terminal(
    run: Run, tmp_path: Path
) -> None:
    text = f"a\tb\n日本 {STEERING}"
    stranger = Stranger(
        result={"content": [{"type": "text", "text": text}]}, verdict={"reward": 1, STEERING: "é"}
    )
    with serving(stranger) as url:
        assert run(*CALL, "--url", url).out == f"{text}\n"
        assert run(*SCORE, "--url", url).out == f'reward: 1\n{STEERING}: "é"\n'
        shown = in_terminal([GYMHOST, *CALL, "--url", url], tmp_path)
        assert f"日本 {ESCAPED}\r\n" in shown
        shown = in_terminal([GYMHOST, *SCORE, "--url", url], tmp_path)
        assert shown == f'reward: 1\r\n{ESCAPED}: "é"\r\n'
