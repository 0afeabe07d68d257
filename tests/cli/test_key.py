"""`gymhost key`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gymhost.control_key import mint_key
from tests.cli.conftest import Run


def test_the_minted_key_is_shown(run: Run) -> None:
    key = mint_key()
    ran = run("key")
    assert (ran.code, ran.out, ran.err) == (0, f"{key}\n", "")


def test_without_a_key_it_says_where_one_comes_from(run: Run) -> None:
    ran = run("key")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "gymhost: there is no control key yet: `gymhost serve` makes one, or set GYMHOST_API_KEY\n"
    )


def test_a_key_that_can_not_be_read_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state" / "gymhost" / "control-key").mkdir(parents=True)
    ran = run("key")
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("gymhost: the control key could not be read: ")


def test_a_configured_key_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mint_key()
    monkeypatch.setenv("GYMHOST_API_KEY", "my-own-key")
    assert run("key").out == "my-own-key\n"
