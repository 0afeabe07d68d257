"""What a report says of the machine."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine


def test_the_machine_is_described_without_its_paths() -> None:
    described = machine.describe("pinned somehow")
    assert described.pinning == "pinned somehow"
    assert described.python == f"CPython {platform.python_version()}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", described.date)
    assert described.cores >= 1
    assert {"gymhost", "hypercorn", "mcp"} <= set(described.versions)
    assert str(Path(__file__).parents[2]) not in described.model_dump_json()


@pytest.mark.parametrize(
    "error", [FileNotFoundError("no git"), subprocess.CalledProcessError(128, "git")]
)
def test_outside_a_checkout_there_is_no_revision(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert machine.describe("").revision is None


def test_where_the_system_does_not_tell_the_processor_python_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert machine._cpu() == "riscv64"
