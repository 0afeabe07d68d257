"""What `compare` prints of files that were made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cells import Cell
from benchmarks.figures import Report, write_report
from tests.benchmarks.reports import MACHINE, failed, measured, report, result

TRIO, ASYNCIO = Cell(backend="trio"), Cell(backend="asyncio", kilobytes=512)


def compare(tmp_path: Path, a: Report, b: Report) -> int:
    write_report(a, tmp_path / "a.json")
    write_report(b, tmp_path / "b.json")
    return main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_change_is_named_and_noise_is_called_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = report(result(TRIO, measured(2.0)), result(ASYNCIO, measured(4.0, noise=1.0)))
    b = report(result(TRIO, measured(3.0, 1.2)), result(ASYNCIO, measured(3.5, noise=0.5)))
    assert compare(tmp_path, a, b) == 0
    printed = capsys.readouterr().out
    found = rows(printed)
    name = str(TRIO).split()
    assert [
        *name,
        *("CPU", "ms", "2.00", "(1.90-2.10)", "3.00", "(2.90-3.10)", "+50.0%", "higher"),
    ] in found
    assert ["CPU/floor", "2.00", "(1.90-2.10)", "2.50", "(2.40-2.60)", "+25.0%", "higher"] in found
    same = ["8.00", "(7.90-8.10)", "8.00", "(7.90-8.10)", "+0.0%", "within", "noise"]
    assert ["p50", "ms", *same] in found
    assert ["p99", "ms"] in [row[:2] for row in found]
    noisy = ["CPU", "ms", "4.00", "(3.00-5.00)", "3.50", "(3.00-4.00)", "-12.5%", "within", "noise"]
    assert [*str(ASYNCIO).split(), *noisy] in found
    assert "different" not in printed
    assert "only in" not in printed


def test_a_lower_figure_is_called_lower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(tmp_path, report(result(TRIO, measured(2.0))), report(result(TRIO, measured(1.0))))
    (row,) = [row for row in rows(capsys.readouterr().out) if row[-8:-6] == ["CPU", "ms"]]
    assert row[-2:] == ["-50.0%", "lower"]


def test_cells_of_one_file_alone_and_failed_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third = Cell(backend="trio", concurrency=256)
    a = report(result(TRIO, measured()), result(ASYNCIO, measured()))
    b = report(failed(TRIO, "call: HTTP 500", 3), result(third, measured()))
    assert compare(tmp_path, a, b) == 0
    printed = capsys.readouterr().out
    assert f"only in A: {ASYNCIO}" in printed
    assert f"only in B: {third}" in printed
    assert f"failed in B: {TRIO}: call: HTTP 500 (3)" in printed
    assert [*str(TRIO).split(), "ok", "failed", "not", "comparable"] in rows(printed)


def test_an_older_report_is_compared_though_it_knows_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report(report(result(TRIO, measured(2.0))), tmp_path / "a.json")
    raw = json.loads((tmp_path / "a.json").read_text())
    for each in raw["results"]:
        usual = ("backend", "protocol", "concurrency", "kilobytes")
        each["cell"] = {name: each["cell"][name] for name in usual}
        del each["measured"]["rounds_cpu_ms"]
    (tmp_path / "old.json").write_text(json.dumps(raw))
    assert main(["compare", str(tmp_path / "old.json"), str(tmp_path / "a.json")]) == 0
    printed = capsys.readouterr().out
    assert "only in" not in printed
    assert "+0.0%" in printed


def test_other_machines_and_versions_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = MACHINE.model_copy(
        update={
            "python": "CPython 3.14.0",
            "cpu": "Another one",
            "load_average": 5.5,
            "versions": {"gymhost": "0.2.0", "uvicorn": "1.0"},
        }
    )
    assert compare(tmp_path, report(), report(machine=other, rounds=1)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "different processor: A processor | Another one",
        "different Python: CPython 3.11.7 | CPython 3.14.0",
        "different gymhost: 0.1.0 | 0.2.0",
        "different mcp: 2.3.0 | none",
        "different uvicorn: none | 1.0",
        "B has one round: its noise is not known",
        "B was measured beside other programs (load average 5.5)",
    ]


def test_a_file_that_is_no_report_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("{")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("benchmarks: ")
    assert "a.json is not JSON" in error
    assert len(error.splitlines()) == 1
