"""The benchmark of one tool call in-process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import call
from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.in_process import Ask


def test_each_loop_has_the_bare_call_and_gymhosts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(call, "CALLS", 3)
    path = tmp_path / "figures.json"
    assert main(["call", "--rounds", "2", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())["call"]
    assert set(figures) == {"asyncio", "trio"}
    for found in figures.values():
        assert set(found) == {call.BARE, call.OURS, call.OURS_MODERN}
        for row in found.values():
            assert 0 < row["min_us"] <= row["median_us"]
        assert found[call.BARE]["above_us"] == 0.0
    out = capsys.readouterr().out
    assert "2 rounds of 3 calls each" in out
    for backend in figures:
        assert f"{backend}: a tool call in-process, above serve_one, in microseconds" in out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}, "a tool call was answered"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": 1}}, "a tool call was answered"),
    ],
)
def test_an_answer_that_is_not_the_tools_ends_it(
    wrong: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def answer(*arguments: Any) -> dict[str, Any]:
        return wrong

    monkeypatch.setattr(call, "answer", answer)
    assert main(["call", "--rounds", "1", "--backend", "trio"]) == 1
    assert said in capsys.readouterr().err


def test_figures_that_can_not_be_written_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(call, "CALLS", 1)
    path = tmp_path / "missing" / "figures.json"
    assert main(["call", "--rounds", "1", "--backend", "asyncio", "--json", str(path)]) == 1
    assert capsys.readouterr().err.endswith("can't be written: No such file or directory.\n")


async def test_another_status_than_200_is_an_error() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"{}"
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"busy", "more_body": True})
        await send({"type": "http.response.body", "body": b"!"})

    with pytest.raises(BenchmarkError, match="/page answered 503: b'busy!'"):
        await Ask("/page", b"{}", {}).send(refuse)
