"""How far a run is, told in lines and in a terminal."""

from __future__ import annotations

import io
import re
from collections import Counter

import anyio
import pytest

from gymhost.rollouts.progress import Pace, describe, display, lines
from gymhost.rollouts.runner import Tally
from tests.served import HandClock


def tally(**changed: object) -> Tally:
    known = {
        "total": 100,
        "scored": 20,
        "rewards": 5.0,
        "failed": Counter({"agent_timeout": 2, "mcp_error": 3}),
        "running": 8,
        "played": 25,
        "left": 75,
    }
    return Tally(**{**known, **changed})  # type: ignore[arg-type]


def test_what_came_out_is_rewards_and_failures_by_kind() -> None:
    assert describe(tally()) == "mean reward 0.250, 5 failed (3 mcp_error, 2 agent_timeout)"
    assert describe(tally(failed=Counter())) == "mean reward 0.250"
    assert describe(tally(scored=0, rewards=0.0, failed=Counter())) == "mean reward -"


def test_the_time_left_is_what_it_takes_at_the_same_pace() -> None:
    clock = HandClock()
    pace = Pace(clock)
    clock.now += 50
    assert pace.left(tally()) == 150.0
    assert pace.left(tally(played=0, left=100)) is None


async def test_lines_are_said_while_the_block_runs() -> None:
    clock, said, enough = HandClock(), list[str](), anyio.Event()

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            enough.set()

    with anyio.fail_after(5):
        async with lines(tally, say, clock=clock, seconds=0.001):
            clock.now += 5_000
            await enough.wait()
    told = "mean reward 0.250, 5 failed (3 mcp_error, 2 agent_timeout)"
    assert said[0] == f"20/100 scored, {told}, 8 running, 4:10:00 left"
    number = len(said)
    await anyio.wait_all_tasks_blocked()
    assert len(said) == number


async def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, clock = Terminal(), HandClock()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with anyio.fail_after(5):
        async with display(tally, clock=clock):
            clock.now += 90
            while "4:30" not in terminal.getvalue():
                await anyio.lowlevel.checkpoint()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"━ 25/100 4:30 left *\r?\n", text)  # those that are over, failed ones too
    assert "mean reward 0.250, 5 failed (3 mcp_error, 2 agent_timeout), 8 running" in text
