from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from gymhost.agents import families
from gymhost.agents.families import MARK, Family
from tests.agents.programs import FOREVER, is_alive


class Child:
    """A process in a session of its own, which the test ends in any case."""

    def __init__(self, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"print(flush=True); {FOREVER}"],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()  # it runs

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def child() -> Iterator[Child]:
    started = Child(**{MARK: "mine"})
    yield started
    started.end()


async def test_a_family_is_known_by_its_group_or_its_mark(child: Child) -> None:
    for family in (Family(child.process.pid, "other"), Family(2**22, "mine")):
        assert family._members() == [child.process.pid]
    assert Family(2**22, "min")._members() == []


async def test_nobody_else_is_ended(child: Child) -> None:
    with anyio.fail_after(20):
        await Family(2**22, "other").end(0.1)
    assert is_alive(child.process.pid)
    with anyio.fail_after(20):
        await Family(child.process.pid, "mine").end(5)
    assert not is_alive(child.process.pid)


async def test_one_that_nobody_has_asked_how_it_ended_keeps_nobody_waiting(child: Child) -> None:
    with anyio.fail_after(20):
        await Family(child.process.pid, "mine").end(600)
        await Family(child.process.pid, "mine").end(600)


async def test_without_proc_a_group_is_ended(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "PROC", tmp_path / "proc")
    monkeypatch.setattr(families, "KILL_SECONDS", 0.1)
    with anyio.fail_after(20):
        await Family(child.process.pid, "mine").end(0.1)
    assert not is_alive(child.process.pid)
    child.end()
    with anyio.fail_after(20):
        await Family(child.process.pid, "mine").end(600)
