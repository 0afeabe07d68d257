"""How far a run is."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from benchmarks import progress
from benchmarks.progress import Progress


def test_without_a_terminal_each_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2) as shown:
        shown.tell("one")
        shown.tell("[bold]two")
    assert capsys.readouterr().err == "one\n[bold]two\n"


def test_a_terminal_gets_a_bar_that_no_thread_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    threads = threading.active_count()
    with Progress(4) as shown:
        shown.tell("[bold]one")
        assert threading.active_count() == threads
        assert "25%" in screen.getvalue()
        assert "[bold]one" in screen.getvalue()
